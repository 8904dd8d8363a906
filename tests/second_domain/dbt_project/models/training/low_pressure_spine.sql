{{ config(materialized="view") }}

select
    reading_id,
    pump,
    event_at - interval '1 hour' as prediction_at,
    event_at as reading_at,
    cast(extract(hour from event_at) as integer) as reading_hour
from {{ ref("stg_readings") }}
