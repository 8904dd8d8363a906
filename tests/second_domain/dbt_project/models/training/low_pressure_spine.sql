{{ config(unique_key="reading_id", window_column="reading_at") }}

select
    reading_id,
    pump,
    event_at - interval '1 hour' as prediction_at,
    event_at as reading_at,
    cast(extract(hour from event_at) as integer) as reading_hour
from {{ ref("stg_readings") }}
where {{ in_run_window("event_at") }} or {{ in_run_window("known_at") }}
order by reading_at, reading_id
