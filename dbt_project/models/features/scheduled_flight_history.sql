{{ config(unique_key=["carrier", "origin", "dest", "scheduled_hour", "known_at"], window_column="known_at") }}

with events as (
    {{ flight_outcomes(["carrier", "origin", "dest", "scheduled_hour"], "60 days") }}
),

{{ rolling_sums(
    "events",
    entity=["carrier", "origin", "dest", "scheduled_hour"],
    measures=["flights", "arrivals", "delay_min", "late", "cancelled"],
    windows={"60d": "60 days"}
) }}

select
    carrier,
    origin,
    dest,
    scheduled_hour,
    known_at,
    flights_60d,
    {{ ratio("delay_min_60d", "arrivals_60d") }} as mean_arrival_delay_60d,
    {{ ratio("late_60d", "arrivals_60d") }} as late_share_60d,
    {{ ratio("cancelled_60d", "flights_60d") }} as cancelled_share_60d
from swept
order by known_at, carrier, origin, dest, scheduled_hour
