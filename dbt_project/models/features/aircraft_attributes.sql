{{ config(unique_key=["tailnum", "known_at"], incremental_strategy="history") }}

select
    tailnum,
    known_at,
    manufacturer,
    model,
    manufactured_year,
    engines,
    seats,
    engine_type,
    is_airliner
from {{ ref("stg_planes") }}
order by known_at, tailnum
