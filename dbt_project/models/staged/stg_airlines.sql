{{ config(unique_key="carrier") }}

with source as (
    select * from {{ source("raw", "airlines") }}
),

deduplicated as (
    select *
    from source
    qualify row_number() over (
        partition by carrier order by _ingested_at desc, _source_uri desc, _row_number desc
    ) = 1
),

final as (
    select
        carrier,
        trim(name) as carrier_name,
        greatest({{ reference_known_from() }}, _late_at) as held_from,
        _ingested_at
    from deduplicated
)

select
    carrier,
    carrier_name,
    held_from as event_at,
    held_from as known_at,
    _ingested_at
from final
order by carrier
