{#-
    Nulls in keys. A key is the config `unique_key`, the entity of a feature view, and the key of a spine. By
    default (`null_keys="reject"`) a row with a null in any of them fails the model before it writes anything.
    With `null_keys="match"` nulls equal each other: the strategies `window` and `history` treat such a row like
    any other, and a feature view has values for an entity with a null key. A timestamp is never null.
-#}

{% macro unique_key_columns() -%}
    {%- set key = config.get("unique_key") or [] -%}
    {{ return([key] if key is string else key | list) }}
{%- endmacro %}

{% macro null_keys_match() -%}
    {{ return(config.get("null_keys", "reject") == "match") }}
{%- endmacro %}

{#- A condition: two rows have the same key. -#}
{% macro same_key(one, other) -%}
    {%- if null_keys_match() -%}
        {{ same_columns(one, other, unique_key_columns()) }}
    {%- else -%}
        {{ equal_columns(one, other, unique_key_columns()) }}
    {%- endif -%}
{%- endmacro %}

{#- The columns that must not be null, each with the declaration that makes it part of a key. -#}
{% macro columns_without_null() -%}
    {%- set found = {} -%}
    {%- set keys, meta = unique_key_columns(), config.get("meta") or {} -%}
    {%- set view, spine = meta.feature_view or {}, meta.spine or {} -%}
    {%- if not null_keys_match() -%}
        {%- for key in keys -%}{%- do found.update({key: "unique_key"}) -%}{%- endfor -%}
        {%- for key in view.entity or [] -%}{%- do found.setdefault(key, "config.meta.feature_view.entity") -%}{%- endfor -%}
    {%- endif -%}
    {%- for key in spine.key or [] -%}{%- do found.setdefault(key, "config.meta.spine.key") -%}{%- endfor -%}
    {%- if view -%}
        {%- do found.update({view.timestamp or "known_at": "config.meta.feature_view.timestamp"}) -%}
    {%- elif config.get("incremental_strategy") == "history" -%}
        {%- do found.update({keys[-1]: "unique_key, its timestamp"}) -%}
    {%- endif -%}
    {{ return(found) }}
{%- endmacro %}

{#- A statement that fails if a relation has a null in a key, and names one such row. -#}
{% macro reject_null_keys(relation) -%}
    {%- set columns = columns_without_null() -%}
    {%- if columns %}
    select
        case
            {%- for column, declared in columns.items() %}
            {%- set as_text = column | replace("'", "''") %}
            when count(*) filter (where {{ quoted(column) }} is null) > 0
                then error(
                    '{{ model.original_file_path | replace("'", "''") }}: models.{{ model.name }}.{{ declared }}: found '
                    || count(*) filter (where {{ quoted(column) }} is null) || ' row(s) with null in {{ as_text }}, such as '
                    || min({{ row_text() }}) filter (where {{ quoted(column) }} is null)
                    || ', expected a value in each row; filter these rows out in the SQL
                    {%- if declared in ("unique_key", "config.meta.feature_view.entity") %}, or set null_keys to match{% endif %}'
                )
            {%- endfor %}
        end as null_keys
    from {{ relation }}
    where {% for column in columns %}{{ quoted(column) }} is null{{ " or " if not loop.last }}{% endfor %};
    {%- endif %}
{%- endmacro %}

{#- A row of the model as text, without the values of confidential and personal columns. -#}
{% macro row_text() -%}
    left(cast({
        {%- for name, column in model.columns.items() %}
        {%- set meta = (column.get("config") or {}).get("meta") or column.get("meta") or {} %}
        '{{ name | replace("'", "''") }}':
        {%- if meta.get("classification") in ("confidential", "personal") %} case when {{ quoted(name) }} is not null then '***' end
        {%- else %} {{ quoted(name) }}
        {%- endif %}{{ "," if not loop.last }}
        {%- endfor %}
    } as varchar), 300)
{%- endmacro %}
