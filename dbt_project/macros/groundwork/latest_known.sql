{#-
    The latest event of each entity, as it was known at each instant: the CTEs `latest` (and what it
    needs) over a CTE of events with `event_at`, `known_at` and the entity's columns.

    At instant T the latest event is the greatest in the total order among those known by then; an older
    event that becomes known after a newer one makes no row. Events that become known more than
    `lookback` after they happened are left out: their row would have outlived its ttl already. That is
    why a run need not look back further. So are events whose `known_at` is null: nobody knows them yet. `latest` has the columns of the events, and one row for each
    entity and instant at which another event became the latest; `known_at` is that instant.

    entity: columns that tell whose features they are.
    total_order: SQL that orders the events of an entity, `event_at` first; no two events are equal.
-#}
{% macro latest_known(events, entity, total_order, lookback) -%}
arriving as (
    select
        * exclude (known_at),
        greatest(event_at, known_at) as known_at,
        row_number() over (
            partition by {{ quoted_list(entity) }} order by {{ total_order | join(", ") }}
        ) as _place
    from {{ events }}
    where known_at is not null and greatest(event_at, known_at) <= event_at + interval '{{ lookback }}'
),

foremost as (
    select
        *,
        max(_place) over (
            partition by {{ quoted_list(entity) }} order by known_at
            range between unbounded preceding and current row
        ) as _foremost_place
    from arriving
),

latest as (
    select * exclude (_place, _foremost_place)
    from foremost
    where _place = _foremost_place and {{ in_run_window("known_at") }}
)
{%- endmacro %}
