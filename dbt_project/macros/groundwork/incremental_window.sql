{#-
    Incremental strategy `window`: makes the rows of the run's window what the model gives.

    A row belongs to the window if its event time, the column named by config `window_column`, lies in
    it; without window variables, or without that column, all rows do. Rows of the window that the model
    does not give exactly so are deleted, and those that are missing inserted: a run that changes nothing
    writes nothing. Rows that the model gives beside the window, late arrivals, replace those of their key.
    If the table has a key more than once, all rows of that key are deleted, and those that the model gives inserted.

    Needs `unique_key`, a column or a list. A key must keep to one window: the event time is part of it, or
    follows from it. Where it may not, config `keys_move` makes the rows of the window replace those of their
    key beside it, at the cost of reading the keys of the whole table.
-#}
{% macro get_incremental_window_sql(arg_dict) -%}
    {%- set target, built = arg_dict["target_relation"], arg_dict["temp_relation"] -%}
    {%- set columns = arg_dict["dest_columns"] | map(attribute="quoted") | list -%}
    {%- do config.require("unique_key") -%}
    {%- set keys = unique_key_columns() -%}
    {%- set window_column = quoted(config.get("window_column")) if config.get("window_column") -%}
    {%- set is_windowed = run_window() and window_column -%}
    {%- set held_in_window = in_run_window("held." ~ window_column) if is_windowed else "true" -%}

    delete from {{ target }} as held
    where
        {{ held_in_window }}
        and not exists (select 1 from {{ built }} as built where {{ same_columns("built", "held", columns) }});

    delete from {{ target }} as held
    where
        {{ held_in_window }}
        and exists (
            select 1
            from (
                select {{ quoted_list(keys) }} from {{ target }} as held
                where {{ held_in_window }}
                group by {{ quoted_list(keys) }}
                having count(*) > 1
            ) as repeated
            where {{ same_columns("repeated", "held", keys) }}
        );

    {%- if is_windowed %}

    delete from {{ target }} as held
    using {{ built }} as built
    where
        {{ same_key("built", "held") }}
        {%- if config.get("keys_move") %}
        and {{ held_in_window }} is not true
        {%- else %}
        and {{ in_run_window("built." ~ window_column) }} is not true
        {%- endif %};
    {%- endif %}

    insert into {{ target }} ({{ columns | join(", ") }})
    select {{ columns | join(", ") }}
    from {{ built }} as built
    where not exists (
        select 1 from {{ target }} as held
        where {{ held_in_window }} and {{ same_key("built", "held") }}
    )
    {%- if window_column %}
    order by {{ window_column }}, {{ quoted_list(keys) }}
    {%- endif %}
{%- endmacro %}

{#- True where two rows have the same values, none of them null, in some columns. -#}
{% macro equal_columns(one, other, columns) -%}
    {%- for column in columns -%}
        {{ one }}.{{ quoted(column) }} = {{ other }}.{{ quoted(column) }}{{ " and " if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{#- True where two rows have the same values, nulls included, in some columns. -#}
{% macro same_columns(one, other, columns) -%}
    {%- for column in columns -%}
        {{ one }}.{{ quoted(column) }} is not distinct from {{ other }}.{{ quoted(column) }}{{ " and " if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
