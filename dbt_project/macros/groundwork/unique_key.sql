{#- Rows whose key is null in part, or is another row's too. -#}
{% test unique_key(model, columns) -%}
    select {{ quoted_list(columns) }}, count(*) as number_of_rows
    from {{ model }}
    group by {{ quoted_list(columns) }}
    having count(*) > 1 or {% for column in columns %}{{ quoted(column) }} is null{{ " or " if not loop.last }}{% endfor %}
{%- endtest %}
