{{ config(unique_key="airport") }}

with source as (
    select * from {{ source("raw", "airports") }}
),

deduplicated as (
    select *
    from source
    qualify row_number() over (
        partition by faa order by _ingested_at desc, _source_uri desc, _row_number desc
    ) = 1
),

corrections as (
    select listed.*
    from {{ airport_corrections() }} as listed (airport, name, latitude, longitude, altitude_ft, time_zone)
),

corrected as (
    select
        coalesce(deduplicated.faa, corrections.airport) as airport,
        coalesce(corrections.name, trim(deduplicated.name)) as airport_name,
        coalesce(corrections.latitude, deduplicated.lat) as latitude,
        coalesce(corrections.longitude, deduplicated.lon) as longitude,
        coalesce(corrections.altitude_ft, deduplicated.alt) as altitude_ft,
        coalesce(corrections.time_zone, deduplicated.tzone) as time_zone,
        corrections.airport is not null as is_corrected,
        greatest({{ reference_known_from() }}, deduplicated._late_at) as held_from,
        deduplicated._ingested_at
    from deduplicated
    full join corrections on deduplicated.faa = corrections.airport
)

select
    airport,
    airport_name,
    cast(latitude as decimal(9, 6)) as latitude,
    cast(longitude as decimal(9, 6)) as longitude,
    altitude_ft,
    time_zone,
    is_corrected,
    held_from as event_at,
    held_from as known_at,
    _ingested_at
from corrected
order by airport
