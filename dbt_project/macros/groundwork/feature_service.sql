{#-
    Feature services in SQL: the features that an exposure declares under config.meta.feature_service, joined
    to a spine point in time, by `point_in_time_join`.
-#}

{#-
    The CTEs `joined` (and what it needs): the spine's rows, each exactly once, with the features of a service
    as `<role>__<feature>`, the timestamp of each role's values as `<role>__<timestamp>`, and the on-demand
    features.

    spine: a CTE with `prediction_time`, the service's entity keys and its request columns.
    views: every view that the service uses, a version of one as `["name", 2]`, which the service calls
        `name_v2`; this is how dbt learns what the model is built from.
-#}
{% macro feature_service_join(spine, prediction_time, service, views) -%}
    {%- set relations = {} -%}
    {%- for view in views -%}
        {%- set relation = ref(view) if view is string else ref(view[0], version=view[1]) -%}
        {%- do relations.update({relation.identifier: relation}) -%}
    {%- endfor -%}
    {%- if execute -%}
        {%- set found = declared_service(service) -%}
        {%- for role in found.roles -%}
            {%- if role.view not in relations -%}
                {{ exceptions.raise_compiler_error(
                    "feature_service_join: " ~ service ~ ": found no " ~ role.view ~ " among views, "
                    ~ "expected every view of the service"
                ) }}
            {%- endif -%}
            {%- do role.update({"relation": relations[role.view]}) -%}
        {%- endfor -%}
        {{ point_in_time_join(spine, prediction_time, found.roles, found.on_demand) }}
    {%- else -%}
        joined as (select * from {{ spine }})
    {%- endif -%}
{%- endmacro %}

{#- The columns that `feature_service_join` adds, for a select. -#}
{% macro feature_service_columns(service) -%}
    {%- if execute -%}
        {%- set found = declared_service(service) -%}
        {%- set names = [] -%}
        {%- for role in found.roles -%}
            {%- do names.append(role.timestamp_as) -%}
            {%- do names.extend(role.features) -%}
        {%- endfor -%}
        {%- do names.extend(found.on_demand) -%}
        {{ quoted_list(names) }}
    {%- else -%}
        *
    {%- endif -%}
{%- endmacro %}

{#- A service as the dict of `roles`, views as `point_in_time_join` takes them, and `on_demand`. -#}
{% macro declared_service(service) -%}
    {%- set declared = (
        graph.exposures.values() | selectattr("name", "equalto", service) | list
    )[0].config.meta.feature_service -%}
    {%- set roles = {} -%}
    {%- for reference in declared.features -%}
        {%- set name, feature = reference.split(":") -%}
        {%- if name not in roles -%}
            {%- do roles.update({name: declared_role(name, (declared.roles or {}).get(name))}) -%}
        {%- endif -%}
        {%- for column in roles[name].order if feature in ("*", column) -%}
            {%- do roles[name].features.update({name ~ "__" ~ column: column}) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return({"roles": roles.values() | list, "on_demand": declared.on_demand or {}}) }}
{%- endmacro %}

{#- A view in a role, without features and relation; the role of a view's own name when `role` is none. -#}
{% macro declared_role(name, role) -%}
    {%- set view = role.view if role else name -%}
    {%- set node = (
        graph.nodes.values() | selectattr("resource_type", "equalto", "model")
        | selectattr("alias", "equalto", view) | list
    )[0] -%}
    {%- set declared = node.config.meta.feature_view -%}
    {%- set timestamp = declared.timestamp or "known_at" -%}
    {%- set entity = {} -%}
    {%- for key in declared.entity -%}
        {%- do entity.update({key: role.join_keys[key] if role else key}) -%}
    {%- endfor -%}
    {{ return({
        "name": name,
        "view": view,
        "entity": entity,
        "timestamp": timestamp,
        "timestamp_as": name ~ "__" ~ timestamp,
        "ttl_seconds": duration_seconds(declared.ttl),
        "null_keys": node.config.null_keys or "reject",
        "features": {},
        "order": node.columns | reject("in", declared.entity) | reject("equalto", timestamp) | list,
    }) }}
{%- endmacro %}

{#- The seconds of a declared length of time, such as `6 hours`. -#}
{% macro duration_seconds(text) -%}
    {%- set seconds = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800} -%}
    {%- set number, unit = text.split() -%}
    {{ return(number | int * seconds[unit.rstrip("s")]) }}
{%- endmacro %}
