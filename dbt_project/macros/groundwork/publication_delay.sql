{#-
    How long after an event a source publishes it, as an interval literal: what the source declares
    under config.meta.ingest.publication_delay, or nothing at all.
-#}
{% macro publication_delay(source_name, table_name) -%}
    {%- set found = namespace(delay=none) -%}
    {%- if execute -%}
        {%- for node in graph.sources.values()
            if node.source_name == source_name and node.name == table_name -%}
            {%- set found.delay = node.config.meta.ingest.publication_delay or "0 seconds" -%}
        {%- endfor -%}
        {%- if found.delay is none -%}
            {{ exceptions.raise_compiler_error(
                "publication_delay: found " ~ source_name ~ "." ~ table_name ~ ", expected a declared source"
            ) }}
        {%- endif -%}
    {%- endif -%}
    interval '{{ found.delay }}'
{%- endmacro %}
