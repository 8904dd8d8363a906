{#- The instant from which the undated rows of reference tables hold: the variable of that name. -#}
{% macro reference_known_from() -%}
    timestamptz '{{ var("reference_known_from") }}'
{%- endmacro %}
