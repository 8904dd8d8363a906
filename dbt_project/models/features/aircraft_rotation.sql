{{ config(unique_key=["tailnum", "known_at"], window_column="known_at") }}

with departures as (
    select
        tailnum,
        departed_at as event_at,
        departure_known_at as known_at,
        flight_id,
        'departed' as last_status,
        origin as last_origin,
        dest as last_dest,
        scheduled_departure_at as last_scheduled_departure_at,
        scheduled_arrival_at as last_scheduled_arrival_at,
        departure_delay_min as last_departure_delay_min,
        cast(null as integer) as last_arrival_delay_min
    from {{ ref("stg_flights") }}
    where tailnum is not null and {{ matters_to_run("departed_at", "departure_known_at", "7 days") }}
),

outcomes as (
    select
        tailnum,
        outcome_at as event_at,
        known_at,
        flight_id,
        case status when 'completed' then 'arrived' else status end as last_status,
        origin as last_origin,
        dest as last_dest,
        scheduled_departure_at as last_scheduled_departure_at,
        scheduled_arrival_at as last_scheduled_arrival_at,
        departure_delay_min as last_departure_delay_min,
        arrival_delay_min as last_arrival_delay_min
    from {{ ref("stg_flights") }}
    where tailnum is not null and {{ matters_to_run("outcome_at", "known_at", "7 days") }}
),

events as (
    select * from departures
    union all
    select * from outcomes
),

{{ latest_known(
    "events",
    entity=["tailnum"],
    total_order=["event_at", "flight_id", "last_status"],
    lookback="7 days"
) }}

select
    tailnum,
    known_at,
    last_status,
    last_origin,
    last_dest,
    last_scheduled_departure_at,
    last_scheduled_arrival_at,
    event_at as last_event_at,
    last_departure_delay_min,
    last_arrival_delay_min
from latest
order by known_at, tailnum
