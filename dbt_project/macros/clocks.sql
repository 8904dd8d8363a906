{#-
    Local wall clocks of source files, written as HHMM integers, and the instants they mean.

    A time zone is given as a dict of two column names: `zone`, its IANA name, and `offset`, how far its
    clock is ahead of UTC, or null where that changes nearby. DuckDB looks a zone up by name for every
    single row, which is slow: the offset spares that on all but the few days around a change.
-#}

{#- Minutes after midnight; 2400 is the next midnight. -#}
{% macro clock_minutes(hhmm) -%}
    ({{ hhmm }} // 100 * 60 + {{ hhmm }} % 100)
{%- endmacro %}

{#- What a clock on the wall reads at an instant, as a local timestamp. -#}
{% macro local_time(instant, at) -%}
    coalesce(timezone('UTC', {{ instant }}) + {{ at.offset }}, timezone({{ at.zone }}, {{ instant }}))
{%- endmacro %}

{#-
    The instant of a local timestamp. Of two, the later one; a reading that clocks skipped is of a clock
    not yet put forward.
-#}
{% macro instant_of(reading, at) -%}
    coalesce(timezone('UTC', {{ reading }} - {{ at.offset }}), timezone({{ at.zone }}, {{ reading }}))
{%- endmacro %}

{#- The instant of a local timestamp; of two, the earlier one. -#}
{% macro earlier_instant_of(reading, at) -%}
    {%- set later = instant_of(reading, at) -%}
    case
        when {{ at.offset }} is null and {{ local_time(later ~ " - interval '1 hour'", at) }} = {{ reading }}
            then {{ later }} - interval '1 hour'
        else {{ later }}
    end
{%- endmacro %}

{#-
    The instant of a local timestamp; of two, the one that `elapsed` is, the instant that the minutes
    passed since another one lead to.
-#}
{% macro instant_of_elapsed(reading, at, elapsed) -%}
    case
        when {{ local_time(elapsed, at) }} = {{ reading }} then {{ elapsed }}
        else {{ instant_of(reading, at) }}
    end
{%- endmacro %}

{#-
    The local timestamp nearest to `expected`, another one, at which a clock reads `hhmm`. Where a file
    gives a clock and a delay, the delay tells the day and the clock the minute.
-#}
{% macro nearest_reading(hhmm, expected) -%}
    {{ expected }} + to_minutes(
        (
            {{ clock_minutes(hhmm) }} + 2160
            - cast(extract(hour from {{ expected }}) * 60 + extract(minute from {{ expected }}) as integer)
        ) % 1440 - 720
    )
{%- endmacro %}

{#- The first instant after `after` at which a clock reads `hhmm`. -#}
{% macro first_instant_of_clock(hhmm, at, after) -%}
    {%- set midnight = "date_trunc('day', " ~ local_time(after, at) ~ ")" -%}
    {%- set today = "(" ~ midnight ~ " + to_minutes(" ~ clock_minutes(hhmm) ~ "))" -%}
    case
        when {{ earlier_instant_of(today, at) }} > {{ after }} then {{ earlier_instant_of(today, at) }}
        when {{ instant_of(today, at) }} > {{ after }} then {{ instant_of(today, at) }}
        else {{ earlier_instant_of("(" ~ today ~ " + interval '1 day')", at) }}
    end
{%- endmacro %}
