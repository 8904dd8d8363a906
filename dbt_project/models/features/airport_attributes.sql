{{ config(unique_key=["airport", "known_at"], incremental_strategy="history") }}

select
    airport,
    known_at,
    airport_name,
    latitude,
    longitude,
    altitude_ft,
    time_zone
from {{ ref("stg_airports") }}
order by known_at, airport
