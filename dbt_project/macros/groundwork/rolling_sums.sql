{#-
    Sums over the last so many hours or days, as they were known at each instant: the CTEs `swept` (and
    what it needs) over a CTE of events with `event_at`, `known_at`, the entity's columns and measures.

    At instant T an event counts in a window of length w if event_at > T - w, event_at <= T and
    known_at <= T. So it enters at greatest(event_at, known_at) and leaves at event_at + w; it never
    counts if it leaves before it enters. An event whose `known_at` is null is not known yet, and never counts.
    `swept` has one row for each entity and instant at which an event enters or leaves a window, with one
    column `<measure>_<window>` for each measure and window.
    Measures are integers, decimals or booleans; null counts as 0. Their sums are exact in any order of
    addition. The sum of a `decimal(p, s)` is a `decimal(38, s)`, of `hugeint` or `ubigint` a `hugeint`,
    and of any other integer a `bigint`; a sum that its type cannot hold fails the run. A table cannot have a
    `hugeint`: cast such a sum to `decimal(38, 0)` in the last select. A floating-point measure is an error
    that the platform reports when definitions load.

    entity: columns that tell whose features they are.
    measures: columns to sum, 0 where an event does not count.
    windows: names and lengths, in any order, such as {"1h": "1 hour", "1d": "1 day"}.
-#}
{% macro rolling_sums(events, entity, measures, windows) -%}
{{ exact_measures(events, measures) }},

entering as (
    select
        {{ quoted_list(entity) }},
        event_at,
        greatest(event_at, known_at) as _entered_at,
        {{ quoted_list(measures) }}
    from {{ events }}
    where
        known_at is not null
        and ({% for length in windows.values() %}
            greatest(event_at, known_at) < event_at + interval '{{ length }}'{{ " or" if not loop.last }}
        {%- endfor %}
        )
),

edges as (
    select
        {{ quoted_list(entity) }},
        _entered_at as known_at,
        true as _enters
        {%- for name, length in windows.items() -%}
        {%- for measure in measures -%},
        case
            when event_at + interval '{{ length }}' > _entered_at then {{ quoted(measure) }} else 0
        end as {{ sum_name(measure, name) }}
        {%- endfor -%}
        {%- endfor %}
    from entering
    {%- for name, length in windows.items() %}
    union all by name
    select
        {{ quoted_list(entity) }},
        event_at + interval '{{ length }}' as known_at,
        false as _enters
        {%- for measure in measures -%},
        {{ quoted(measure) }} as {{ sum_name(measure, name) }}
        {%- endfor %}
    from entering
    where event_at + interval '{{ length }}' > _entered_at
    {%- endfor %}
),

instants as (
    select
        {{ quoted_list(entity) }},
        known_at
        {%- for name in windows -%}
        {%- for measure in measures -%},
        {#- Not the sum of negated values: the smallest value of an integer type has no negation. #}
        coalesce(sum({{ sum_name(measure, name) }}) filter (where _enters), 0)
        - coalesce(sum({{ sum_name(measure, name) }}) filter (where not _enters), 0) as {{ sum_name(measure, name) }}
        {%- endfor -%}
        {%- endfor %}
    from edges
    group by {{ quoted_list(entity) }}, known_at
),

-- Whatever enters leaves again, so the sums of each entity end at 0, where those of the next begin: one
-- running sum over all of them is the running sum of each, in a fraction of the time of a partitioned one.
running as (
    select
        {{ quoted_list(entity) }},
        known_at
        {%- for name in windows -%}
        {%- for measure in measures -%},
        sum({{ sum_name(measure, name) }}) over so_far as {{ sum_name(measure, name) }}
        {%- endfor -%}
        {%- endfor %}
    from instants
    window so_far as (order by {{ quoted_list(entity) }}, known_at rows unbounded preceding)
),

swept as (
    select
        {{ quoted_list(entity, "running.") }},
        running.known_at
        {%- for name in windows -%}
        {%- for measure in measures -%},
        {#- A cast to the same or a wider type, or an error; a sum of decimals stays a decimal. #}
        cast_to_type(running.{{ sum_name(measure, name) }}, exact_measures.{{ quoted(measure) }}) as {{ sum_name(measure, name) }}
        {%- endfor -%}
        {%- endfor %}
    from running
    cross join exact_measures
    where
        exact_measures._are_exact and
        {%- if run_window() %}
        {{ in_run_window("running.known_at") }}
        {%- else %}
        running.known_at <= (select max(_entered_at) from entering)
        {%- endif %}
)
{%- endmacro %}

{#- The column of a measure's sum over a window. -#}
{% macro sum_name(measure, window) -%}
    {{ quoted(unquoted(measure) ~ "_" ~ window) }}
{%- endmacro %}

{#-
    The CTE `exact_measures`: one row with a column of the type of each measure's sum, and `_are_exact`, which
    is true or raises an error that names a floating-point measure. The comment at its end marks how much of
    the SQL the platform runs to check types.
-#}
{% macro exact_measures(events, measures) -%}
exact_measures as (
    select
        {%- for measure in measures %}
        max(coalesce({{ quoted(measure) }}, 0)) * cast(0 as bigint) * cast(0 as bigint) as {{ quoted(measure) }},
        {%- endfor %}
        case
            {%- for measure in measures %}
            {%- set as_text = measure | replace("'", "''") %}
            when typeof(sum({{ quoted(measure) }})) = 'DOUBLE'
                then error(
                    '{{ model.original_file_path if model is defined }}: rolling_sums.measures.{{ as_text }}: found '
                    || lower(typeof(max({{ quoted(measure) }})))
                    || ', expected an integer or a decimal, whose sums are exact: in {{ events }} declare '
                    || 'cast({{ as_text }} as decimal(18, 6)) as {{ as_text }}, with as many digits as it has'
                )
            {%- endfor %}
            else true
        end as _are_exact
    from {{ events }}
    where false
)
/* exact_measures ends */
{%- endmacro %}

{#-
    True for the events that can matter to a run: those that happened no more than `lookback` before its
    window, for then they leave at its very start, and were known before its end. An event whose `known_at`
    is null is not known yet.
-#}
{% macro matters_to_run(event_at, known_at, lookback) -%}
    {%- set window = run_window() -%}
    {%- if window -%}
        {{ event_at }} >= {{ window.start }} - interval '{{ lookback }}'
        and {{ event_at }} < {{ window.end }}
        and {{ known_at }} < {{ window.end }}
    {%- else -%}
        {{ event_at }} is not null and {{ known_at }} is not null
    {%- endif -%}
{%- endmacro %}

{#- Share of two whole numbers, null when the second is 0. Exact up to the one division. -#}
{% macro ratio(part, whole) -%}
    {{ part }} / nullif({{ whole }}, 0)
{%- endmacro %}
