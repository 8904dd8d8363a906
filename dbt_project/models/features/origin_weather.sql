{{ config(unique_key=["origin", "known_at"], window_column="known_at") }}

-- Three hours more than the ttl, for the change of pressure.
with reports as (
    select *
    from {{ ref("stg_weather") }}
    where {{ matters_to_run("event_at", "known_at", "9 hours") }}
),

events as (
    select
        later.*,
        later.pressure_hpa - earlier.pressure_hpa as pressure_change_3h
    from reports as later
    left join reports as earlier
        on
            later.origin = earlier.origin
            and later.event_at = earlier.event_at + interval '3 hours'
            and later.known_at >= earlier.known_at
),

{{ latest_known("events", entity=["origin"], total_order=["event_at"], lookback="6 hours") }}

select
    origin,
    known_at,
    event_at as observed_at,
    temperature_f,
    temperature_f - dew_point_f as dew_point_spread_f,
    relative_humidity_pct,
    wind_speed_kt,
    -- A report gives gusts only when there are some: without, the strongest wind is the wind.
    coalesce(wind_gust_kt, wind_speed_kt) as strongest_wind_kt,
    wind_gust_kt is not null as is_gusty,
    precipitation_in,
    precipitation_in > 0 and temperature_f <= 34 as is_freezing_precipitation,
    visibility_mi,
    visibility_mi < 3 as is_low_visibility,
    pressure_hpa,
    pressure_change_3h
from latest
order by known_at, origin
