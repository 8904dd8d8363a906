{#-
    Incremental strategy `history`: a slowly changing dimension, one row for each change of an entity.

    The model gives how its entities are now. A row is added where an entity is new, or differs from the
    newest row that the table holds of it. Rows of the past stay, whatever the model gives; a row with
    the very same key is updated, should it be computed otherwise now. Needs `unique_key`, a list of the
    entity's columns and, last, the timestamp.
-#}
{% macro get_incremental_history_sql(arg_dict) -%}
    {%- set target, built = arg_dict["target_relation"], arg_dict["temp_relation"] -%}
    {%- set columns = arg_dict["dest_columns"] | map(attribute="quoted") | list -%}
    {%- do config.require("unique_key") -%}
    {%- set keys = unique_key_columns() -%}
    {%- set entity, timestamp = keys[:-1], keys[-1] -%}
    {%- set values = [] -%}
    {%- for column in columns if unquoted(column) | lower != unquoted(timestamp) | lower -%}
        {%- do values.append(column) -%}
    {%- endfor -%}

    update {{ target }} as held
    set
        {%- for column in columns %}
        {{ column }} = built.{{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from {{ built }} as built
    where
        {{ same_columns("built", "held", keys) }}
        and not ({{ same_columns("built", "held", columns) }});

    insert into {{ target }} ({{ columns | join(", ") }})
    select {{ columns | join(", ") }}
    from {{ built }} as built
    where not exists (
        select 1
        from (
            select * from {{ target }}
            qualify row_number() over (partition by {{ quoted_list(entity) }} order by {{ quoted(timestamp) }} desc) = 1
        ) as held
        where
            {{ same_columns("built", "held", entity) }}
            and (
                held.{{ quoted(timestamp) }} >= built.{{ quoted(timestamp) }}
                or ({{ same_columns("built", "held", values) }})
            )
    )
    order by {{ quoted_list(keys) }}
{%- endmacro %}
