{#-
    Compare the columns that a model gives with those of its table before a run writes to the table.

    If a column's type becomes wider, so that every value stays as it is, the table is altered, and so it is if
    only the case of a name changes. A column may
    lose its `not_null`, and new columns are added, null in existing rows (`on_schema_change:
    append_new_columns`). Any other change, including a removed or renamed column, needs a rebuilt table.
    dbt calls this in the transaction of the run, after it creates the temporary table and before the
    strategy's statements.
-#}
{% macro duckdb__process_schema_changes(on_schema_change, source_relation, target_relation) -%}
    {%- set given, stored = described_columns(source_relation), described_columns(target_relation) -%}
    {%- set may_add = on_schema_change in ("append_new_columns", "sync_all_columns") -%}
    {%- set may_drop = on_schema_change == "sync_all_columns" -%}
    {%- set faults, statements = [], [] -%}
    {%- for key, column in given.items() -%}
        {%- set held = stored.get(key) -%}
        {%- set name = adapter.quote(column.name) -%}
        {%- set is_required = key in not_null_columns() -%}
        {%- if held is none -%}
            {%- if is_required -%}
                {%- do faults.append(column.name ~ ": found no such column in the table, and a constraint not_null") -%}
            {%- elif not may_add -%}
                {%- do faults.append(column.name ~ ": found no such column in the table, and on_schema_change: " ~ on_schema_change) -%}
            {%- endif -%}
            {%- do statements.append("add column " ~ name ~ " " ~ column.data_type) -%}
        {%- else -%}
            {%- if column.name != held.name -%}
                {%- do statements.append("rename column " ~ adapter.quote(held.name) ~ " to " ~ name) -%}
            {%- endif -%}
            {%- if column.data_type != held.data_type -%}
                {%- if is_wider(held.data_type, column.data_type) -%}
                    {%- do statements.append("alter column " ~ name ~ " set data type " ~ column.data_type) -%}
                {%- else -%}
                    {%- do faults.append(
                        column.name ~ ": found " ~ held.data_type | lower ~ " in the table, and "
                        ~ column.data_type | lower ~ " in the SQL and the YAML, which cannot hold every value exactly"
                    ) -%}
                {%- endif -%}
            {%- endif -%}
            {%- if held.is_required and not is_required -%}
                {%- do statements.append("alter column " ~ name ~ " drop not null") -%}
            {%- elif is_required and not held.is_required -%}
                {%- do faults.append(column.name ~ ": found nulls allowed in the table, and a constraint not_null in the YAML") -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- for key, held in stored.items() if key not in given -%}
        {%- if not may_drop -%}
            {%- do faults.append(held.name ~ ": found " ~ held.data_type | lower ~ " in the table, and no such column in the SQL and the YAML") -%}
        {%- endif -%}
        {%- do statements.append("drop column " ~ adapter.quote(held.name)) -%}
    {%- endfor -%}
    {%- if faults -%}
        {%- do refuse_stored_table(target_relation, faults) -%}
    {%- endif -%}
    {%- for statement in statements -%}
        {%- do run_query("alter table " ~ target_relation ~ " " ~ statement) -%}
    {%- endfor -%}
    {{ return(adapter.get_columns_in_relation(source_relation)) }}
{%- endmacro %}

{% macro refuse_stored_table(relation, faults) -%}
    {#- Asset keys are layer/table; the layer is the folder under models/. -#}
    {%- set asset = model.original_file_path.replace("\\", "/").split("/")[1] ~ "/" ~ model.alias -%}
    {%- do exceptions.raise_compiler_error(
        model.original_file_path ~ ": models." ~ model.name ~ ".columns: " ~ relation ~ " does not match the model:\n"
        ~ "  " ~ faults | join("\n  ") ~ "\n"
        ~ "Nothing was written. Expected the stored columns, new columns or wider types. To rebuild the table:\n"
        ~ "  groundwork run --full-refresh --select key:" ~ asset
        ~ ("\n(this deletes the versions that the history strategy has kept)" if config.get("incremental_strategy") == "history" else "")
    ) -%}
{%- endmacro %}

{#- The columns of a relation by lower-case name, with their types as DuckDB writes them. -#}
{% macro described_columns(relation) -%}
    {%- set found = {} -%}
    {%- for row in run_query("describe " ~ relation) -%}
        {%- do found.update({row[0] | lower: {"name": row[0], "data_type": row[1], "is_required": row[2] == "NO"}}) -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{#- The columns, in lower case, for which the YAML declares a constraint `not_null` that dbt enforces. -#}
{% macro not_null_columns() -%}
    {%- set found = [] -%}
    {%- for name, column in model.columns.items() if config.get("contract").enforced -%}
        {%- for constraint in column.constraints or [] if constraint.type == "not_null" -%}
            {%- do found.append(name | lower) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{#-
    True if a type holds every value of another one exactly, and DuckLake reads a column altered in this way
    unchanged. Not from FLOAT to DOUBLE: DuckLake then skips files by the shorter text of their minimum and
    maximum. Not to HUGEINT or UHUGEINT: Parquet stores them as doubles, and the lakehouse refuses them.
-#}
{% macro is_wider(stored, given) -%}
    {%- set digits = {
        "TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19, "HUGEINT": 39,
        "UTINYINT": 3, "USMALLINT": 5, "UINTEGER": 10, "UBIGINT": 20, "UHUGEINT": 39
    } -%}
    {%- set order = {
        "TINYINT": 1, "SMALLINT": 2, "INTEGER": 3, "BIGINT": 4, "HUGEINT": 5,
        "UTINYINT": 1, "USMALLINT": 2, "UINTEGER": 3, "UBIGINT": 4, "UHUGEINT": 5
    } -%}
    {%- if given in ("HUGEINT", "UHUGEINT") -%}
        {%- set is_wider = false -%}
    {%- elif stored in order and given in order -%}
        {%- set is_wider = order[stored] < order[given] and (stored.startswith("U") or not given.startswith("U")) -%}
    {%- elif stored in order and given in ("FLOAT", "DOUBLE") -%}
        {%- set is_wider = order[stored] <= (3 if given == "DOUBLE" else 2) -%}
    {%- elif given.startswith("DECIMAL(") and (stored in order or stored.startswith("DECIMAL(")) -%}
        {%- set to = given[8:-1].split(",") -%}
        {%- set from = [digits[stored], 0] if stored in order else stored[8:-1].split(",") -%}
        {%- set is_wider = (
            to[1] | int >= from[1] | int and to[0] | int - to[1] | int >= from[0] | int - from[1] | int
        ) -%}
    {%- else -%}
        {%- set is_wider = false -%}
    {%- endif -%}
    {{ return(is_wider) }}
{%- endmacro %}
