{#-
    Point-in-time joins: to each row of a spine, of each feature view, the values that were known at the row's
    prediction time. Plain Jinja, without anything of dbt's: Python renders this very file outside dbt.

    For a row of the spine and a view that is the row of the view with an equal entity, the latest timestamp
    not after the prediction time, and this no more than the ttl before it. A null key matches none,
    unless the view sets `null_keys`.
    Of rows with one entity and one timestamp the one counts whose values are greatest, compared column
    by column in the order `order` gives; null is less than any value. Values that are equal but not the same,
    which only zeros of two signs are, count by their text. (Ordered by a bare column, DuckDB makes -0.0 of it 0.0.)

    A view is a dict:
        name: a name of its own in the join.
        relation: where its rows are.
        entity: its entity's columns, each with the spine's column that it has to equal.
        timestamp: its timestamp column.
        ttl_seconds: how long its values hold.
        features: names that its columns get in the join, each with the column.
        order: all its columns that are neither entity nor timestamp, in the declared order.
        timestamp_as: optional; a name under which the join has the timestamp of the values.
        null_keys: optional; `match` if nulls in keys equal each other. The spine's keys must then have the
            same types as the view's.

    Keys and timestamps alone are joined `asof`, and the values fetched for what was found. So no more is
    sorted than has to be: DuckDB keeps all that an ASOF join sorts in memory, and that of all the joins of a
    statement at once. It is cheap to see then which rows were found more than once; only those are ordered.
-#}

{#-
    The CTEs `joined` (and what it needs): the spine's rows, each exactly once, with the values of all views
    and, over them, the on-demand features.

    spine: a CTE with the entities' columns and `prediction_time`; no column's name begins with an underscore.
    on_demand: names of further columns, each with its `expression` over all others and its `data_type`.
-#}
{% macro point_in_time_join(spine, prediction_time, views, on_demand={}) -%}
_spine as materialized (
    select *, row_number() over () as _row from {{ spine }}
),

{% for view in views -%}
{{ quoted("_" ~ view.name) }} as (
    {{ known_values("_spine", prediction_time, view) }}
),

{% endfor -%}
_joined as (
    select
        _spine.* exclude (_row)
        {%- for view in views -%},
        {{ quoted("_" ~ view.name) }}.* exclude (_row)
        {%- endfor %}
    from _spine
    {%- for view in views %}
    left join {{ quoted("_" ~ view.name) }} on _spine._row = {{ quoted("_" ~ view.name) }}._row
    {%- endfor %}
),

joined as (
    {{ with_on_demand("_joined", on_demand) }}
)
{%- endmacro %}

{#- A select that adds the on-demand features to the rows of a join. -#}
{% macro with_on_demand(joined, on_demand) -%}
    select
        *
        {%- for name, feature in on_demand.items() -%},
        cast({{ feature.expression }} as {{ feature.data_type }}) as {{ quoted(name) }}
        {%- endfor %}
    from {{ joined }}
{%- endmacro %}

{#-
    A select of what one view knew: `_row`, the number of a row of the spine, and the values of the view.
    Rows for which it knew nothing are not in it; each other is once.
-#}
{% macro known_values(spine, prediction_time, view) -%}
    with

    found as materialized (
        {{ found_rows(spine, prediction_time, view) }}
    ),

    fetched as materialized (
        {{ fetched_values("found", view) }}
    ),

    several as materialized (
        {{ fetched_several_times("fetched") }}
    ),

    greatest as (
        {{ greatest_values("found", "several", view) }}
    )

    select {{ found_columns(view) }} from fetched
    where not exists (select 1 from several where several._row = fetched._row)
    union all
    select {{ found_columns(view) }} from greatest
{%- endmacro %}

{#-
    The parts of `known_values`, for who can give each a statement of its own: what an ASOF join has sorted
    is let go of then, which halves memory and takes a fifth less time.

    first, last: the spine's first and last prediction time, where they are known: comparing with literals
    is quicker, and spares DuckDB the files beyond.
-#}
{% macro found_rows(spine, prediction_time, view, first=none, last=none) -%}
        select
            spine._row,
            {%- for key in view.entity.values() %}
            spine.{{ quoted(key) }} as _key_{{ loop.index }},
            {%- endfor %}
            known.{{ quoted(view.timestamp) }} as _known_at
        from {{ spine }} as spine
        asof inner join (
            select {{ quoted_list(view.entity.keys()) }}, {{ quoted(view.timestamp) }}
            from {{ view.relation }}
            where
                {{ quoted(view.timestamp) }} <= {{ last or "(select max(" ~ quoted(prediction_time) ~ ") from " ~ spine ~ ")" }}
                and {{ quoted(view.timestamp) }} >= {{
                    first or "(select min(" ~ quoted(prediction_time) ~ ") from " ~ spine ~ ")"
                }} - interval '{{ view.ttl_seconds }} seconds'
        ) as known
            on
                {%- for column, key in view.entity.items() %}
                {#- Compared as text: an ASOF join treats `is not distinct from` as `=`, and loses rows of nested types. #}
                {% if view.get("null_keys") == "match" -%}
                (spine.{{ quoted(key) }} is null) = (known.{{ quoted(column) }} is null) and
                coalesce(cast(spine.{{ quoted(key) }} as varchar), '') = coalesce(cast(known.{{ quoted(column) }} as varchar), '') and
                {%- else -%}
                spine.{{ quoted(key) }} = known.{{ quoted(column) }} and
                {%- endif %}
                {%- endfor %}
                spine.{{ quoted(prediction_time) }} >= known.{{ quoted(view.timestamp) }}
        where known.{{ quoted(view.timestamp) }} >= spine.{{ quoted(prediction_time) }} - interval '{{ view.ttl_seconds }} seconds'
{%- endmacro %}

{% macro fetched_values(found, view) -%}
        select
            found._row,
            found._known_at
            {%- for name, column in view.features.items() -%},
            known.{{ quoted(column) }} as {{ quoted(name) }}
            {%- endfor %}
        from {{ view.relation }} as known
        inner join {{ found }} as found on {{ is_found_row(view) }}
{%- endmacro %}

{% macro fetched_several_times(fetched) -%}
        select _row from {{ fetched }}
        group by _row
        having count(*) > 1
{%- endmacro %}

{% macro greatest_values(found, several, view) -%}
        select
            found._row,
            found._known_at
            {%- for name, column in view.features.items() -%},
            known.{{ quoted(column) }} as {{ quoted(name) }}
            {%- endfor %}
        from {{ view.relation }} as known
        inner join {{ found }} as found on {{ is_found_row(view) }}
        where found._row in (select _row from {{ several }})
        qualify row_number() over (
            partition by found._row
            order by
                {%- for column in view.order %}
                case when known.{{ quoted(column) }} is not null then known.{{ quoted(column) }} end desc nulls last,
                {%- endfor %}
                {%- for column in view.order %}
                known.{{ quoted(column) }}::varchar desc nulls last{{ "," if not loop.last }}
                {%- endfor %}
        ) = 1
{%- endmacro %}

{% macro is_found_row(view) -%}
    {%- for column in view.entity -%}
    known.{{ quoted(column) }} {{ "is not distinct from" if view.get("null_keys") == "match" else "=" }} found._key_{{ loop.index }} and {# -#}
    {%- endfor -%}
    known.{{ quoted(view.timestamp) }} = found._known_at
{%- endmacro %}

{% macro found_columns(view) -%}
    _row
    {%- if view.get("timestamp_as") %}, _known_at as {{ quoted(view.timestamp_as) }}{% endif -%}
    {%- for name in view.features %}, {{ quoted(name) }}{% endfor -%}
{%- endmacro %}

{#-
    A name as an SQL identifier, so that keywords, spaces and capitals are no matter. A name in double quotes
    stays as it is.
-#}
{% macro quoted(name) -%}
    {{ '"' ~ unquoted(name) | replace('"', '""') ~ '"' }}
{%- endmacro %}

{% macro quoted_list(names, prefix="") -%}
    {%- for name in names -%}{{ prefix }}{{ quoted(name) }}{{ ", " if not loop.last }}{%- endfor -%}
{%- endmacro %}

{% macro unquoted(name) -%}
    {%- if name | length > 1 and name[0] == '"' and name[-1] == '"' -%}
        {{ name[1:-1] | replace('""', '"') }}
    {%- else -%}
        {{ name }}
    {%- endif -%}
{%- endmacro %}
