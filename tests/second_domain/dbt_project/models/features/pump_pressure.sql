{{ config(unique_key=["pump", "known_at"], window_column="known_at") }}

with readings as (
    select
        pump,
        event_at,
        known_at,
        1 as readings,
        cast(pressure * 100 as integer) as centibar
    from {{ ref("stg_readings") }}
    where is_open and {{ matters_to_run("event_at", "known_at", "6 hours") }}
),

{{ rolling_sums(
    "readings",
    entity=["pump"],
    measures=["readings", "centibar"],
    windows={"6h": "6 hours"}
) }}

select
    pump,
    known_at,
    readings_6h,
    {{ ratio("centibar_6h", "readings_6h * 100") }} as mean_pressure_6h
from swept
order by known_at, pump
