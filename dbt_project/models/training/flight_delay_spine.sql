{{ config(materialized="view") }}

select
    {{ scheduled_flight() }}
from {{ ref("stg_flights") }}
