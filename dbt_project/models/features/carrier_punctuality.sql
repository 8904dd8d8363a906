{{ config(unique_key=["carrier", "known_at"], window_column="known_at") }}

with events as (
    {{ flight_outcomes(["carrier"], "7 days") }}
),

{{ rolling_sums(
    "events",
    entity=["carrier"],
    measures=["flights", "arrivals", "delay_min", "late", "cancelled"],
    windows={"6h": "6 hours", "7d": "7 days"}
) }}

select
    carrier,
    known_at,
    flights_6h,
    flights_7d,
    {{ ratio("delay_min_6h", "arrivals_6h") }} as mean_arrival_delay_6h,
    {{ ratio("delay_min_7d", "arrivals_7d") }} as mean_arrival_delay_7d,
    {{ ratio("late_6h", "arrivals_6h") }} as late_share_6h,
    {{ ratio("late_7d", "arrivals_7d") }} as late_share_7d,
    {{ ratio("cancelled_6h", "flights_6h") }} as cancelled_share_6h,
    {{ ratio("cancelled_7d", "flights_7d") }} as cancelled_share_7d
from swept
order by known_at, carrier
