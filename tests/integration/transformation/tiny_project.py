"""A tiny dbt project of another domain: sensors and their readings, one seed, two layers."""

import shutil
from pathlib import Path

from orchestration.settings import PROJECT_DIR

FILES = {
    "dbt_project.yml": """
name: tiny
version: "1.0"
profile: groundwork
models:
  tiny:
    +contract: {enforced: true}
    staged: {+schema: staged, +materialized: table}
    features: {+schema: features, +materialized: table}
seeds:
  tiny: {+schema: staged}
""",
    "macros/generate_schema_name.sql": """
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
""",
    "models/raw/sources.yml": """
sources:
  - name: raw
    database: lake
    schema: raw
    tables:
      - name: readings
        description: One row a reading.
        config: {meta: {owner: "team:sensing", ingest: {uri: "file:///nowhere/readings.csv", format: csv,
          primary_key: [reading], event_time: taken_at,
          partition: {frequency: daily, start: "2024-01-01", end: "2024-01-05"}}}}
        columns:
          - {name: reading, data_type: integer, description: Its number.}
          - {name: sensor, data_type: integer, description: The sensor.}
          - {name: taken_at, data_type: timestamptz, description: When.}
          - {name: value, data_type: integer, description: What it read.}
      - name: sensors
        description: One row a sensor.
        config: {meta: {owner: "team:sensing", ingest: {uri: "file:///nowhere/sensors.csv", format: csv,
          primary_key: [sensor]}}}
        columns:
          - {name: sensor, data_type: integer, description: Its number.}
          - {name: kind, data_type: varchar, description: Its kind.}
""",
    "models/staged/stg_readings.sql": """
with readings as (
    select * from {{ source('raw', 'readings') }}
)

select
    reading,
    sensor,
    value,
    taken_at as event_at,
    '{{ var("partition_start", "none") }}' as built_from
from readings
""",
    "models/staged/stg_readings.yml": """
models:
  - name: stg_readings
    description: One row a reading.
    config: {meta: {owner: "team:sensing"}}
    columns:
      - name: reading
        data_type: integer
        description: Its number.
        data_tests: [unique]
      - {name: sensor, data_type: integer, description: The sensor.}
      - name: value
        data_type: integer
        description: What it read.
        data_tests: [{not_null: {config: {severity: warn}}}]
        config: {meta: {classification: confidential}}
      - {name: event_at, data_type: timestamptz, description: When.}
      - {name: built_from, data_type: varchar, description: Start of the window it was built in.}
""",
    "models/staged/stg_sensors.sql": """
select
    sensors.sensor,
    kinds.label
from {{ source('raw', 'sensors') }} as sensors
left join {{ ref('kinds') }} as kinds on sensors.kind = kinds.kind
""",
    "models/staged/stg_sensors.yml": """
models:
  - name: stg_sensors
    description: One row a sensor.
    config: {meta: {owner: "team:sensing"}}
    columns:
      - name: sensor
        data_type: integer
        description: Its number.
        data_tests:
          - unique
          - relationships: {arguments: {to: "ref('stg_readings')", field: sensor}, config: {severity: warn}}
      - {name: label, data_type: varchar, description: Its kind in words.}
unit_tests:
  - name: labels_come_from_the_seed
    model: stg_sensors
    given:
      - {input: "source('raw', 'sensors')", rows: [{sensor: 1, kind: t}]}
      - {input: ref('kinds'), rows: [{kind: t, label: heat}]}
    expect: {rows: [{sensor: 1, label: heat}]}
""",
    "models/staged/loud_readings.sql": """
{{ config(materialized='ephemeral', contract={'enforced': false}) }}

select sensor, value, event_at from {{ ref('stg_readings') }} where value > 1
""",
    "models/staged/loud_readings.yml": """
models:
  - name: loud_readings
    description: Readings above one.
    config: {meta: {owner: "team:sensing"}}
    columns:
      - {name: sensor, data_type: integer, description: The sensor.}
      - {name: value, data_type: integer, description: What it read.}
      - {name: event_at, data_type: timestamptz, description: When.}
""",
    "models/features/sensor_loudness.sql": """
select
    loud.sensor,
    loud.event_at as known_at,
    max(loud.value) as loudest
from {{ ref('loud_readings') }} as loud
inner join {{ ref('stg_sensors') }} as sensors on loud.sensor = sensors.sensor
group by all
""",
    "models/features/sensor_loudness.yml": """
models:
  - name: sensor_loudness
    description: One row a sensor and instant.
    config: {meta: {owner: "team:sensing", feature_view: {entity: [sensor], ttl: 1 day}}}
    columns:
      - {name: sensor, data_type: integer, description: The sensor., data_tests: [not_null]}
      - {name: known_at, data_type: timestamptz, description: From when it holds.}
      - {name: loudest, data_type: integer, description: The loudest reading.}
""",
    "seeds/kinds.csv": "kind,label\nt,heat\nh,damp\n",
    "seeds/kinds.yml": """
seeds:
  - name: kinds
    description: One row a kind of sensor.
    config: {meta: {owner: "team:sensing"}}
    columns:
      - {name: kind, data_type: varchar, description: Its code.}
      - {name: label, data_type: varchar, description: In words.}
""",
}

RAW = [
    "create schema if not exists raw",
    "create or replace table raw.sensors (sensor integer, kind varchar)",
    "insert into raw.sensors values (1, 't'), (2, 'h')",
    "create or replace table raw.readings (reading integer, sensor integer, taken_at timestamptz, value integer)",
    "insert into raw.readings select i, 1 + i % 2, "
    "timestamptz '2024-01-01 00:00:00Z' + i * interval 1 hour, i % 7 from range(96) as t (i)",
]


def write_project(folder: Path) -> Path:
    """The project under ``folder``, with the shipped ``profiles.yml``."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip("\n"))
    shutil.copy(PROJECT_DIR / "dbt_project" / "profiles.yml", folder / "profiles.yml")
    return folder
