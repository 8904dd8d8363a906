{{ config(unique_key=["origin", "known_at"], window_column="known_at") }}

with departures as (
    select
        origin,
        departed_at as event_at,
        departure_known_at as known_at,
        1 as departures,
        departure_delay_min as delay_min,
        cast(departure_delay_min >= 15 as integer) as late,
        0 as cancellations
    from {{ ref("stg_flights") }}
    where {{ matters_to_run("departed_at", "departure_known_at", "24 hours") }}
),

cancellations as (
    select
        origin,
        outcome_at as event_at,
        known_at,
        0 as departures,
        0 as delay_min,
        0 as late,
        1 as cancellations
    from {{ ref("stg_flights") }}
    where status = 'cancelled' and {{ matters_to_run("outcome_at", "known_at", "24 hours") }}
),

events as (
    select * from departures
    union all
    select * from cancellations
),

{{ rolling_sums(
    "events",
    entity=["origin"],
    measures=["departures", "delay_min", "late", "cancellations"],
    windows={"1h": "1 hour", "3h": "3 hours", "24h": "24 hours"}
) }}

select
    origin,
    known_at,
    departures_1h,
    departures_3h,
    departures_24h,
    {{ ratio("delay_min_1h", "departures_1h") }} as mean_departure_delay_1h,
    {{ ratio("delay_min_3h", "departures_3h") }} as mean_departure_delay_3h,
    {{ ratio("delay_min_24h", "departures_24h") }} as mean_departure_delay_24h,
    {{ ratio("late_1h", "departures_1h") }} as late_share_1h,
    {{ ratio("late_3h", "departures_3h") }} as late_share_3h,
    {{ ratio("late_24h", "departures_24h") }} as late_share_24h,
    cancellations_1h,
    cancellations_3h,
    cancellations_24h
from swept
order by known_at, origin
