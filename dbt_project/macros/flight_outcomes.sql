{#-
    What became of flights, as events to be counted and summed: one row a flight that has arrived, been
    cancelled or been diverted.

    entity: the columns of the flight to keep.
    reach: how far back the widest window over these events goes.
-#}
{% macro flight_outcomes(entity, reach) -%}
    select
        {{ entity | join(",\n        ") }},
        outcome_at as event_at,
        known_at,
        1 as flights,
        cast(status = 'completed' as integer) as arrivals,
        coalesce(arrival_delay_min, 0) as delay_min,
        coalesce(air_time_min, 0) as air_time_min,
        cast(air_time_min is not null as integer) as timed,
        cast(status = 'completed' and is_late as integer) as late,
        cast(status = 'cancelled' as integer) as cancelled
    from {{ ref("stg_flights") }}
    where {{ matters_to_run("outcome_at", "known_at", reach) }}
{%- endmacro %}
