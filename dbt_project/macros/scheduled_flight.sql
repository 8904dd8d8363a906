{#-
    What is known of a flight when its delay is predicted, two hours before its scheduled departure, beside
    features: the same columns in training and in prediction.
-#}
{% macro scheduled_flight() -%}
        flight_id,
        carrier,
        origin,
        dest,
        tailnum,
        distance_mi,
        scheduled_hour,
        scheduled_departure_at,
        scheduled_arrival_at,
        scheduled_departure_at - interval '2 hours' as prediction_at
{%- endmacro %}
