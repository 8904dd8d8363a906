{{ config(unique_key="flight_id", window_column="event_at") }}

{% set at_origin = {"zone": "origin_zone", "offset": "origin_offset"} %}
{% set at_dest = {"zone": "dest_zone", "offset": "dest_offset"} %}
{% set delay = publication_delay("raw", "flights") %}

with source as (
    select * from {{ rows_to_stage(source("raw", "flights"), "time_hour") }}
),

-- Should the files hold a flight twice, the row delivered last is kept, and of these the one written last.
deduplicated as (
    select *
    from source
    qualify row_number() over (
        partition by year, month, day, carrier, flight, origin
        order by _ingested_at desc, _source_uri desc, _row_number desc
    ) = 1
),

zoned as (
    select
        deduplicated.*,
        origins.time_zone as origin_zone,
        destinations.time_zone as dest_zone,
        deduplicated.time_hour + to_minutes(deduplicated.sched_dep_time % 100) as scheduled_departure_at,
        date_trunc('day', deduplicated.time_hour) as utc_day,
        case
            when deduplicated.dep_time is null then 'cancelled'
            when deduplicated.arr_delay is null then 'diverted'
            else 'completed'
        end as status
    from deduplicated
    left join {{ ref("stg_airports") }} as origins on deduplicated.origin = origins.airport
    left join {{ ref("stg_airports") }} as destinations on deduplicated.dest = destinations.airport
),

zone_days as (
    select
        origin_zone as zone,
        utc_day
    from zoned
    union
    select
        dest_zone as zone,
        utc_day
    from zoned
),

-- Offsets that hold from the day before a flight to a week after it.
steady_offsets as (
    select
        zone,
        utc_day,
        timezone(zone, utc_day) - timezone('UTC', utc_day) as utc_offset
    from zone_days
    where
        timezone(zone, utc_day - interval '1 day') + interval '8 days'
        = timezone(zone, utc_day + interval '7 days')
),

scheduled as (
    select
        zoned.*,
        origins.utc_offset as origin_offset,
        destinations.utc_offset as dest_offset,
        {{ first_instant_of_clock(
            "zoned.sched_arr_time",
            {"zone": "zoned.dest_zone", "offset": "destinations.utc_offset"},
            "zoned.scheduled_departure_at"
        ) }} as scheduled_arrival_at
    from zoned
    left join steady_offsets as origins
        on zoned.origin_zone = origins.zone and zoned.utc_day = origins.utc_day
    left join steady_offsets as destinations
        on zoned.dest_zone = destinations.zone and zoned.utc_day = destinations.utc_day
),

on_local_clocks as (
    select
        *,
        {{ local_time("scheduled_departure_at", at_origin) }} as scheduled_departure_local,
        {{ local_time("scheduled_arrival_at", at_dest) }} as scheduled_arrival_local,
        scheduled_departure_at + to_minutes(dep_delay) as elapsed_departure_at,
        scheduled_arrival_at + to_minutes(arr_delay) as elapsed_arrival_at
    from scheduled
),

delayed as (
    select
        *,
        scheduled_departure_local + to_minutes(dep_delay) as expected_departure_local,
        scheduled_arrival_local + to_minutes(arr_delay) as expected_arrival_local
    from on_local_clocks
),

readings as (
    select
        *,
        {{ nearest_reading("dep_time", "expected_departure_local") }} as departed_local,
        {{ nearest_reading("arr_time", "expected_arrival_local") }} as arrived_local
    from delayed
),

departures as (
    select
        *,
        {{ instant_of_elapsed("departed_local", at_origin, "elapsed_departure_at") }} as departed_at
    from readings
),

arrivals as (
    select
        *,
        case status
            when 'completed' then {{ instant_of_elapsed("arrived_local", at_dest, "elapsed_arrival_at") }}
            when 'diverted' then {{ first_instant_of_clock("arr_time", at_dest, "departed_at") }}
        end as arrived_at
    from departures
),

-- From when the outcome could be seen. The files do not tell when a flight was called off: its scheduled
-- departure is the latest. A flight that never came is given up three hours after it was expected.
outcomes as (
    select
        *,
        case
            when status = 'cancelled' then scheduled_departure_at
            when arrived_at is not null then arrived_at
            when status = 'diverted'
                then departed_at + (scheduled_arrival_at - scheduled_departure_at) + interval '3 hours'
        end as seen_at
    from arrivals
),

-- No row is known before its scheduled departure, so a day's file never reaches into the day before.
known as (
    select
        *,
        greatest(coalesce(seen_at, departed_at + interval '1 day'), scheduled_departure_at) as outcome_at,
        greatest(departed_at, scheduled_departure_at) as departure_seen_at
    from outcomes
)

select
    printf('%04d-%02d-%02d-%s-%d-%s', year, month, day, carrier, flight, origin) as flight_id,
    carrier,
    flight as flight_number,
    tailnum,
    origin,
    dest,
    distance as distance_mi,
    status,
    scheduled_departure_at,
    scheduled_arrival_at,
    departed_at,
    arrived_at,
    cast(extract(hour from scheduled_departure_local) as integer) as scheduled_hour,
    dep_delay as departure_delay_min,
    arr_delay as arrival_delay_min,
    air_time as air_time_min,
    case status when 'completed' then arr_delay >= 15 when 'cancelled' then true end as is_late,
    outcome_at,
    case
        when departed_at is not null then greatest(departure_seen_at + {{ delay }}, _late_at)
    end as departure_known_at,
    scheduled_departure_at as event_at,
    greatest(outcome_at + {{ delay }}, _late_at) as known_at,
    _ingested_at
from known
order by event_at, flight_id
