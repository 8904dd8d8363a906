{#-
    The window of a run: the variables partition_start and partition_end, ISO 8601 in UTC, both or
    neither. Without them a run is about the whole of history.
-#}
{% macro run_window() -%}
    {%- set start, end = var("partition_start", none), var("partition_end", none) -%}
    {%- if (start is none) != (end is none) -%}
        {{ exceptions.raise_compiler_error(
            "vars: found only one of partition_start and partition_end, expected both or neither"
        ) }}
    {%- endif -%}
    {{ return(none if start is none else {
        "start": "timestamptz '" ~ start ~ "'", "end": "timestamptz '" ~ end ~ "'"
    }) }}
{%- endmacro %}

{#- True where an instant lies in the run's window, start included, end not. -#}
{% macro in_run_window(instant) -%}
    {%- set window = run_window() -%}
    {%- if window -%}
        ({{ instant }} >= {{ window.start }} and {{ instant }} < {{ window.end }})
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}

{#-
    The rows of a source that a staged model has to read: those whose event time lies in the run's
    window and, on a table that exists, those that arrived after the newest row it holds, however
    old they are. Two scans rather than one `or`, so that each can skip files by their statistics.
-#}
{% macro rows_to_stage(relation, event_time) -%}
    (
        select * from {{ relation }} where {{ in_run_window(event_time) }}
        {%- if run_window() and is_incremental() %}
        union all
        select * from {{ relation }}
        where
            _ingested_at > (select coalesce(max(held._ingested_at), '-infinity') from {{ this }} as held)
            and {{ in_run_window(event_time) }} is not true
        {%- endif %}
    )
{%- endmacro %}
