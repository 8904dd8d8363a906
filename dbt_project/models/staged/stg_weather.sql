{{ config(unique_key=["origin", "event_at"], window_column="event_at") }}

with source as (
    select * from {{ rows_to_stage(source("raw", "weather"), "time_hour") }}
),

deduplicated as (
    select *
    from source
    qualify row_number() over (
        partition by origin, time_hour
        order by _ingested_at desc, _source_uri desc, _row_number desc
    ) = 1
),

-- The file gives wind in miles per hour that are whole knots times 1.15078: knots are exact.
in_knots as (
    select
        *,
        cast(round(wind_speed / 1.15078) as integer) as wind_speed_kt,
        cast(round(wind_gust / 1.15078) as integer) as wind_gust_kt
    from deduplicated
)

select
    origin,
    cast(temp as decimal(5, 2)) as temperature_f,
    cast(dewp as decimal(5, 2)) as dew_point_f,
    cast(humid as decimal(5, 2)) as relative_humidity_pct,
    wind_dir as wind_direction_deg,
    -- No wind on the ground has ever reached 250 knots; such a reading is a fault of the instrument.
    case when wind_speed_kt between 0 and 250 then wind_speed_kt end as wind_speed_kt,
    case when wind_gust_kt between 0 and 250 then wind_gust_kt end as wind_gust_kt,
    cast(precip as decimal(5, 2)) as precipitation_in,
    cast(pressure as decimal(6, 1)) as pressure_hpa,
    cast(visib as decimal(4, 2)) as visibility_mi,
    time_hour as event_at,
    greatest(time_hour + {{ publication_delay("raw", "weather") }}, _late_at) as known_at,
    _ingested_at
from in_knots
order by event_at, origin
