{#-
    Training sets: what their models share, by what they declare under config.meta.training_set.
-#}

{#-
    True for the rows of a run whose label was known at the training cut-off, the variable of that name, or
    else the instant at which a replay clock stands.

    A training row comes to be when its label becomes known, so a run's window is about that instant: no label
    is too late for its partition.
-#}
{% macro label_is_known(label, label_known_at) -%}
    ({{ label }} is not null and {{ label_known_at }} <= {{ training_cutoff() }}
    and {{ in_run_window(label_known_at) }})
{%- endmacro %}

{% macro training_cutoff() -%}
    {%- set clock = (var("groundwork", none) or {}).get("clock", {}) -%}
    {%- set cutoff = var("training_cutoff", none) or clock.get("replay_at") -%}
    {%- if execute and cutoff is none -%}
        {{ exceptions.raise_compiler_error(
            "vars: found no training_cutoff, expected the instant up to which labels are known"
        ) }}
    {%- endif -%}
    timestamptz '{{ cutoff }}'
{%- endmacro %}

{#-
    The split of a row of a training set: train, validation, test, or embargo, which is none of them.

    A row is of train if it is asked for before `train_until`, and of validation before `validation_until`.
    After each of the two instants comes an embargo as wide as declared, so that what is trained on was known
    when the first row of validation was asked for, and so on. A label that took longer than the embargo, or
    is not known yet, puts its row there too.
-#}
{% macro training_split(training_set) -%}
    {%- if execute -%}
        {%- set declared = (
            graph.nodes.values() | selectattr("resource_type", "equalto", "model")
            | selectattr("name", "equalto", training_set) | list
        )[0].config.meta.training_set -%}
        {%- set asked_at = quoted(declared.prediction_time or "prediction_at") -%}
        {%- set known_at = quoted(declared.label_known_at or "label_known_at") -%}
        {%- set train_until = "timestamptz '" ~ declared.split.train_until ~ "'" -%}
        {%- set validation_until = "timestamptz '" ~ declared.split.validation_until ~ "'" -%}
        {%- set embargo = "interval '" ~ duration_seconds(declared.split.embargo) ~ " seconds'" -%}
    case
        when {{ asked_at }} < {{ train_until }} and {{ known_at }} <= {{ train_until }} + {{ embargo }} then 'train'
        when
            {{ asked_at }} >= {{ train_until }} + {{ embargo }}
            and {{ asked_at }} < {{ validation_until }}
            and {{ known_at }} <= {{ validation_until }} + {{ embargo }}
            then 'validation'
        when {{ asked_at }} >= {{ validation_until }} + {{ embargo }} and {{ known_at }} is not null then 'test'
        else 'embargo'
    end
    {%- else -%}
        'embargo'
    {%- endif -%}
{%- endmacro %}
