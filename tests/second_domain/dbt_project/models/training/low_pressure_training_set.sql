{{ config(unique_key="reading_id", window_column="label_known_at") }}

with

spine as (
    select
        reading_id,
        pump,
        event_at - interval '1 hour' as prediction_at,
        event_at as reading_at,
        cast(extract(hour from event_at) as integer) as reading_hour,
        pressure < 3 as is_low,
        known_at as label_known_at
    from {{ ref("stg_readings") }}
    where is_open and {{ label_is_known("pressure", "known_at") }}
),

{{ feature_service_join("spine", "prediction_at", "low_pressure", views=["pump_pressure"]) }}

select
    reading_id,
    pump,
    prediction_at,
    reading_at,
    reading_hour,
    is_low,
    label_known_at,
    {{ training_split("low_pressure_training_set") }} as split,
    {{ feature_service_columns("low_pressure") }}
from joined
order by label_known_at, reading_id
