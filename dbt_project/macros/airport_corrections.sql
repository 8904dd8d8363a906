{#-
    What the airports file lacks or has wrong, as rows of reference data: airports it does not list, and
    wrong positions with the time zones that follow from them. A null leaves the file's value as it is.
-#}
{% macro airport_corrections() -%}
    (
        values
        -- Not listed.
        ('BQN', 'Rafael Hernandez', 18.4949, -67.1294, 237, 'America/Puerto_Rico'),
        ('PSE', 'Mercedita', 18.0083, -66.5630, 29, 'America/Puerto_Rico'),
        ('SJU', 'Luis Munoz Marin Intl', 18.4394, -66.0018, 9, 'America/Puerto_Rico'),
        ('STT', 'Cyril E King', 18.3373, -64.9734, 23, 'America/St_Thomas'),
        -- Degrees and minutes written as if decimals; two also east of Greenwich, hence in China's time zone.
        ('DVT', null, 33.6883, -112.0826, null, 'America/Phoenix'),
        ('MYF', null, 32.8157, -117.1396, null, 'America/Los_Angeles'),
        ('LRO', null, 32.8978, -79.7828, null, 'America/New_York'),
        ('YAK', null, 59.5033, -139.6603, null, 'America/Anchorage'),
        -- Latitude and longitude exchanged: in the Arctic Ocean, without a time zone.
        ('EEN', null, 42.8983, -72.2708, null, 'America/New_York')
    )
{%- endmacro %}
