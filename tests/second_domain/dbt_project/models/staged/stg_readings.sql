{{ config(unique_key="reading_id", window_column="event_at") }}

with

arrived as (
    select * from {{ rows_to_stage(source("raw", "readings"), "read_at") }}
),

-- A reading delivered twice counts once: the last delivery wins.
latest as (
    select *
    from arrived
    qualify
        row_number() over (
            partition by reading_id
            order by _ingested_at desc, _source_sha256, _row_number
        ) = 1
)

select
    reading_id,
    pump,
    pressure,
    valve = 'open' as is_open,
    read_at as event_at,
    greatest(read_at + {{ publication_delay("raw", "readings") }}, _late_at) as known_at,
    _ingested_at
from latest
