{{ config(unique_key="flight_id", window_column="label_known_at", keys_move=true) }}

with

flights as (
    select
        {{ scheduled_flight() }},
        is_late,
        known_at as label_known_at
    from {{ ref("stg_flights") }}
    where {{ label_is_known("is_late", "known_at") }}
),

{{ feature_service_join(
    "flights",
    prediction_time="prediction_at",
    service="flight_delay",
    views=[
        "origin_congestion", "carrier_punctuality", "route_punctuality", "scheduled_flight_history",
        "aircraft_rotation", "origin_weather", "aircraft_attributes", "airport_attributes"
    ]
) }}

select
    flight_id,
    carrier,
    origin,
    dest,
    tailnum,
    distance_mi,
    scheduled_hour,
    scheduled_departure_at,
    scheduled_arrival_at,
    prediction_at,
    is_late,
    label_known_at,
    {{ training_split("flight_delay_training_set") }} as split,
    {{ feature_service_columns("flight_delay") }}
from joined
order by label_known_at, flight_id
