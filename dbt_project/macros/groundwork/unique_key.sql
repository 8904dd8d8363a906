{#- Rows whose key is null in part, or is another row's too. -#}
{% test unique_key(model, columns) -%}
    select {{ columns | join(", ") }}, count(*) as number_of_rows
    from {{ model }}
    group by {{ columns | join(", ") }}
    having count(*) > 1 or {{ columns | join(" is null or ") }} is null
{%- endtest %}
