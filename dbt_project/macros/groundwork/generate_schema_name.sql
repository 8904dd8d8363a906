{#- Schemas are exactly what a model names: the lakehouse has one schema a layer, in every environment. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
