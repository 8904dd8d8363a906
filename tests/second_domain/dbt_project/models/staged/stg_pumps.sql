{{ config(unique_key="pump") }}

select
    pump,
    maker,
    timezone('UTC', installed_on) as event_at,
    greatest(timezone('UTC', installed_on), _late_at) as known_at,
    _ingested_at
from {{ source("raw", "pumps") }}
