{{ config(unique_key="flight_id", window_column="scheduled_departure_at") }}

select
    {{ scheduled_flight() }}
from {{ ref("stg_flights") }}
-- A flight that was delivered late is of a day before: it is known in the run's window.
where {{ in_run_window("event_at") }} or {{ in_run_window("known_at") }}
order by scheduled_departure_at, flight_id
