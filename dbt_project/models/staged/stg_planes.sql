{{ config(unique_key="tailnum") }}

with source as (
    select * from {{ source("raw", "planes") }}
),

deduplicated as (
    select *
    from source
    qualify row_number() over (
        partition by tailnum order by _ingested_at desc, _source_uri desc, _row_number desc
    ) = 1
),

-- One name a maker: the register spells three of them in seven ways.
named as (
    select
        *,
        case manufacturer
            when 'AIRBUS INDUSTRIE' then 'AIRBUS'
            when 'MCDONNELL DOUGLAS AIRCRAFT CO' then 'MCDONNELL DOUGLAS'
            when 'MCDONNELL DOUGLAS CORPORATION' then 'MCDONNELL DOUGLAS'
            when 'CANADAIR LTD' then 'CANADAIR'
            else manufacturer
        end as maker,
        greatest({{ reference_known_from() }}, _late_at) as held_from
    from deduplicated
)

select
    tailnum,
    -- A register of 2013 cannot hold an aircraft of a later year, nor of one before powered flight.
    case when year between 1903 and extract(year from held_from) then year end as manufactured_year,
    lower(type) as aircraft_type,
    maker as manufacturer,
    upper(model) as model,
    engines,
    seats,
    lower(engine) as engine_type,
    -- These airlines fly jets and large turboprops, none of them the A340, and no business jets: any other
    -- aircraft under the registration is another one.
    seats >= 20
    and type = 'Fixed wing multi engine'
    and coalesce(engine, '') <> 'Reciprocating'
    and coalesce(manufacturer, '') <> 'GULFSTREAM AEROSPACE'
    and not starts_with(coalesce(upper(model), ''), 'A340') as is_airliner,
    held_from as event_at,
    held_from as known_at,
    _ingested_at
from named
order by tailnum
