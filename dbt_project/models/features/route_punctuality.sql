{{ config(unique_key=["origin", "dest", "known_at"], window_column="known_at") }}

with events as (
    {{ flight_outcomes(["origin", "dest"], "28 days") }}
),

{{ rolling_sums(
    "events",
    entity=["origin", "dest"],
    measures=["flights", "arrivals", "delay_min", "air_time_min", "timed", "late", "cancelled"],
    windows={"28d": "28 days"}
) }}

select
    origin,
    dest,
    known_at,
    flights_28d,
    {{ ratio("delay_min_28d", "arrivals_28d") }} as mean_arrival_delay_28d,
    {{ ratio("air_time_min_28d", "timed_28d") }} as mean_air_time_28d,
    {{ ratio("late_28d", "arrivals_28d") }} as late_share_28d,
    {{ ratio("cancelled_28d", "flights_28d") }} as cancelled_share_28d
from swept
order by known_at, origin, dest
