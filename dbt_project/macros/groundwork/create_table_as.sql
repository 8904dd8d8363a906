{#-
    Create a table and check it: it has the types that its YAML declares, with or without
    `contract: {enforced: true}`, and no null in its key unless that is declared. The temporary table of an
    incremental run is checked too.
-#}
{% macro duckdb__create_table_as(
    temporary, relation, compiled_code, language="sql", partitioned_by=none, sorted_by=none
) -%}
    {%- set is_checked = language == "sql" and model.resource_type == "model" -%}
    {%- if is_checked and not config.get("contract").enforced -%}
        {{ get_assert_columns_equivalent(compiled_code) }}
    {%- endif -%}
    {{ dbt.duckdb__create_table_as(temporary, relation, compiled_code, language, partitioned_by, sorted_by) }}
    {%- if is_checked %}
    {{ reject_null_keys(relation.include(database=(not temporary), schema=(not temporary))) }}
    {%- endif -%}
{%- endmacro %}
