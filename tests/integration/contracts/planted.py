"""Defects to plant into a day of real data: for each check that the day passes, what makes it fail.

A defect that cannot but break other checks of its table too has them listed in ``COMPANIONS``.
"""

_LANDED = "_row_number = (select min(_row_number) from raw.flights where arr_delay is not null)"
_REPORT = "origin = 'EWR' and extract(hour from timezone('America/New_York', {})) = 12"
_RAW_REPORT = _REPORT.format("time_hour")
_REPORT_STAGED = _REPORT.format("event_at")
_COMPLETED = "flight_id = (select min(flight_id) from staged.stg_flights where status = 'completed')"
_CANCELLED = "flight_id = (select min(flight_id) from staged.stg_flights where status = 'cancelled')"
_DIVERTED = """flight_id = (
    select min(flight_id) from staged.stg_flights where status = 'diverted' and arrived_at is not null
)"""


_TRAINED = """flight_id = (
    select flight_id from training.flight_delay_training_set where is_late
    order by label_known_at, flight_id limit 1 offset 9
)"""


def _oldest(table: str, where: str = "true") -> str:
    return f"known_at = (select min(known_at) from features.{table} where {where}) and {where}"


DEFECTS: dict[str, dict[str, str]] = {
    "raw/airlines": {
        "no_missing_carrier": "update raw.airlines set carrier = null where carrier = 'OO'",
        "unique_carrier": "insert into raw.airlines select * from raw.airlines where carrier = 'OO'",
        "valid_carrier": "update raw.airlines set carrier = 'SKW' where carrier = 'OO'",
        "no_missing_name": "update raw.airlines set name = null where carrier = 'OO'",
    },
    "raw/airports": {
        "no_missing_faa": "update raw.airports set faa = null where faa = 'ABE'",
        "unique_faa": "insert into raw.airports select * from raw.airports where faa = 'ABE'",
        "valid_faa": "update raw.airports set faa = 'KABE' where faa = 'ABE'",
    },
    "raw/flights": {
        "valid_origin": f"update raw.flights set origin = 'SWF' where {_LANDED}",
        "valid_dep_delay": f"update raw.flights set dep_delay = dep_delay + 2880 where {_LANDED}",
        "schedule_is_complete": f"update raw.flights set dest = null where {_LANDED}",
        "clocks_are_clocks": """update raw.flights set sched_arr_time = sched_arr_time - 40
            where sched_arr_time between 1000 and 1039""",
        "calendar_agrees": f"update raw.flights set minute = (minute + 1) % 60 where {_LANDED}",
        "delays_agree_with_clocks": f"update raw.flights set arr_delay = arr_delay + 1 where {_LANDED}",
        "outcomes_agree": f"update raw.flights set air_time = null where {_LANDED}",
        "one_distance_a_route": """update raw.flights set distance = distance + 1
            where origin = 'JFK' and dest = 'LAX' and hour < 10""",
        "weather_of_the_hour_exists": f"delete from raw.weather where {_RAW_REPORT}",
        "speed_is_possible": f"update raw.flights set air_time = 5 where {_LANDED}",
        "distance_is_flown": f"update raw.flights set dest = origin where {_LANDED}",
        "aircraft_in_one_place": """update raw.flights set tailnum = 'N1'
            where origin = 'JFK' and dest = 'LAX' and carrier = 'AA'""",
        "days_are_whole": "delete from raw.flights where _row_number % 5 <> 0",
        "origins_are_represented": "delete from raw.flights where origin = 'LGA'",
        "delivered_on_time": "update raw.flights set _late_at = _ingested_at where hour < 9",
    },
    "raw/planes": {
        "no_missing_tailnum": "update raw.planes set tailnum = null where tailnum = 'N10156'",
        "unique_tailnum": "insert into raw.planes select * from raw.planes where tailnum = 'N10156'",
        "valid_tailnum": "update raw.planes set tailnum = 'N0' where tailnum = 'N10156'",
        "no_missing_type": "update raw.planes set type = null where tailnum = 'N10156'",
        "valid_type": "update raw.planes set type = 'Glider' where tailnum = 'N10156'",
    },
    "raw/weather": {
        "no_missing_temp": f"update raw.weather set temp = null where {_RAW_REPORT}",
        "no_missing_wind_speed": f"update raw.weather set wind_speed = null where {_RAW_REPORT}",
        "valid_wind_speed": f"update raw.weather set wind_speed = 300, wind_gust = null where {_RAW_REPORT}",
        "key_is_complete": f"update raw.weather set origin = null where {_RAW_REPORT}",
        "hours_without_report": f"delete from raw.weather where {_RAW_REPORT}",
        "unique_origin_time_hour": f"insert into raw.weather select * from raw.weather where {_RAW_REPORT}",
        "unique_local_hour": "update raw.weather set hour = 22 where origin = 'EWR' and hour = 23",
        "calendar_agrees": f"update raw.weather set month = 1 where {_RAW_REPORT}",
        "readings_agree": f"update raw.weather set dewp = temp + 1 where {_RAW_REPORT}",
        "direction_is_known": "update raw.weather set wind_dir = null where wind_speed > 8",
        "within_records": f"update raw.weather set visib = 11 where {_RAW_REPORT}",
        "temperature_is_steady": f"update raw.weather set temp = temp + 25 where {_RAW_REPORT}",
        "stations_are_represented": "delete from raw.weather where origin = 'LGA'",
        "delivered_on_time": "update raw.weather set _late_at = _ingested_at where hour < 9",
    },
    "staged/stg_airlines": {
        "no_missing_carrier": "update staged.stg_airlines set carrier = null where carrier = 'OO'",
        "unique_carrier": """insert into staged.stg_airlines
            select * from staged.stg_airlines where carrier = 'OO'""",
        "no_missing_carrier_name": "update staged.stg_airlines set carrier_name = null where carrier = 'OO'",
        "known_after_it_holds": "update staged.stg_airlines set known_at = event_at - interval '1 hour'",
        "carriers_as_in_raw": "delete from staged.stg_airlines where carrier = 'OO'",
    },
    "staged/stg_airports": {
        "no_missing_airport": "update staged.stg_airports set airport = null where airport = 'SJU'",
        "unique_airport": """insert into staged.stg_airports
            select * from staged.stg_airports where airport = 'ABE'""",
        "no_missing_time_zone": "update staged.stg_airports set time_zone = null where airport = 'ABE'",
        "valid_altitude_ft": "update staged.stg_airports set altitude_ft = 20000 where airport = 'ABE'",
        "time_zone_exists": "update staged.stg_airports set time_zone = 'America/Gotham' where airport = 'ABE'",
        "position_is_american": "update staged.stg_airports set longitude = -longitude where airport = 'ABE'",
        "known_after_it_holds": "update staged.stg_airports set known_at = event_at - interval '1 hour'",
        "airports_lost": "delete from staged.stg_airports where airport = 'ABE'",
        "airports_corrected": "update staged.stg_airports set is_corrected = true",
    },
    "staged/stg_flights": {
        "carrier_is_listed": f"update staged.stg_flights set carrier = 'ZZ' where {_COMPLETED}",
        "origin_is_listed": f"update staged.stg_flights set origin = 'ZZZ' where {_COMPLETED}",
        "destination_is_listed": f"update staged.stg_flights set dest = 'ZZZ' where {_COMPLETED}",
        "valid_status": f"update staged.stg_flights set status = 'lost' where {_DIVERTED}",
        "required_is_complete": f"update staged.stg_flights set scheduled_hour = null where {_COMPLETED}",
        "status_agrees": f"update staged.stg_flights set departure_known_at = null where {_COMPLETED}",
        "label_agrees": f"update staged.stg_flights set is_late = not is_late where {_COMPLETED}",
        "instants_agree_with_delays": f"""update staged.stg_flights
            set departed_at = departed_at - interval '1 minute' where {_COMPLETED}""",
        "arrives_after_it_left": f"""update staged.stg_flights
            set arrived_at = departed_at - interval '1 minute' where {_DIVERTED}""",
        "schedule_fits_distance": f"""update staged.stg_flights
            set scheduled_arrival_at = scheduled_arrival_at + interval '24 hours' where {_CANCELLED}""",
        "distance_fits_positions": """update staged.stg_airports
            set latitude = latitude + 1 where airport = 'LAX'""",
        "known_after_it_happened": f"""update staged.stg_flights
            set known_at = outcome_at - interval '1 minute' where {_COMPLETED}""",
        "known_within_a_day": "update staged.stg_flights set known_at = known_at + interval '3 days'",
        "rows_missing_of_raw": f"delete from staged.stg_flights where {_CANCELLED}",
        "sums_other_than_raw": f"update staged.stg_flights set distance_mi = distance_mi + 1 where {_COMPLETED}",
        "late_share": "update staged.stg_flights set is_late = true",
    },
    "staged/stg_planes": {
        "no_missing_tailnum": "update staged.stg_planes set tailnum = null where tailnum = 'N10156'",
        "unique_tailnum": """insert into staged.stg_planes
            select * from staged.stg_planes where tailnum = 'N10156'""",
        "no_missing_is_airliner": "update staged.stg_planes set is_airliner = null where tailnum = 'N10156'",
        "manufacturer_has_one_name": """update staged.stg_planes
            set manufacturer = 'AIRBUS INDUSTRIE' where tailnum = 'N10156'""",
        "valid_manufactured_year": """update staged.stg_planes
            set manufactured_year = 0 where tailnum = 'N10156'""",
        "known_after_it_holds": "update staged.stg_planes set known_at = event_at - interval '1 hour'",
        "aircraft_as_in_raw": "delete from staged.stg_planes where tailnum = 'N10156'",
        "airliner_share": "update staged.stg_planes set is_airliner = false where manufacturer = 'BOEING'",
    },
    "staged/stg_weather": {
        "station_is_listed": f"update staged.stg_weather set origin = 'ZZZ' where {_REPORT_STAGED}",
        "valid_wind_speed_kt": f"update staged.stg_weather set wind_speed_kt = 911 where {_REPORT_STAGED}",
        "valid_wind_gust_kt": """update staged.stg_weather set wind_gust_kt = 911
            where wind_gust_kt = (select max(wind_gust_kt) from staged.stg_weather)""",
        "required_is_complete": f"update staged.stg_weather set known_at = null where {_REPORT_STAGED}",
        "unique_origin_event_at": f"""update staged.stg_weather
            set event_at = event_at - interval '1 hour' where {_REPORT_STAGED}""",
        "known_after_the_hour": f"update staged.stg_weather set known_at = event_at where {_REPORT_STAGED}",
        "rows_missing_of_raw": """insert into staged.stg_weather (origin, event_at, known_at, _ingested_at)
            select origin, event_at - interval '30 minutes', known_at, _ingested_at
            from staged.stg_weather limit 1""",
        "sums_other_than_raw": f"""update staged.stg_weather
            set temperature_f = temperature_f + 1 where {_REPORT_STAGED}""",
        "readings_dropped": f"update staged.stg_weather set wind_speed_kt = null where {_REPORT_STAGED}",
    },
    "features/aircraft_attributes": {
        "valid_seats": """update staged.stg_planes set seats = 1000 where tailnum = 'N10156';
            update features.aircraft_attributes set seats = 1000 where tailnum = 'N10156'""",
        "required_is_complete": """update staged.stg_planes set is_airliner = null where tailnum = 'N10156';
            update features.aircraft_attributes set is_airliner = null where tailnum = 'N10156'""",
        "unique_tailnum_known_at": """insert into features.aircraft_attributes
            select * from features.aircraft_attributes where tailnum = 'N10156'""",
        "newest_is_staged": """update features.aircraft_attributes set model = 'X' where tailnum = 'N10156'""",
        "airliner_share": """update staged.stg_planes set is_airliner = false where manufacturer = 'BOEING';
            update features.aircraft_attributes set is_airliner = false where manufacturer = 'BOEING'""",
    },
    "features/aircraft_rotation": {
        "no_missing_last_status": f"""update features.aircraft_rotation set last_status = null
            where {_oldest("aircraft_rotation", "last_status = 'departed'")}""",
        "valid_last_status": f"""update features.aircraft_rotation set last_status = 'lost'
            where {_oldest("aircraft_rotation", "last_status = 'departed'")}""",
        "destination_is_listed": f"""update features.aircraft_rotation set last_dest = 'ZZZ'
            where {_oldest("aircraft_rotation")}""",
        "required_is_complete": f"""update features.aircraft_rotation set last_origin = null
            where {_oldest("aircraft_rotation")}""",
        "known_after_it_happened": f"""update features.aircraft_rotation
            set known_at = last_event_at - interval '1 minute' where {_oldest("aircraft_rotation")}""",
        "delays_agree": f"""update features.aircraft_rotation set last_arrival_delay_min = 0
            where {_oldest("aircraft_rotation", "last_status = 'departed'")}""",
        "legs_are_short": f"""update features.aircraft_rotation
            set last_scheduled_departure_at = last_scheduled_departure_at - interval '3 days'
            where {_oldest("aircraft_rotation")}""",
        "newest_event_agrees": """update features.aircraft_rotation
            set last_event_at = last_event_at - interval '1 hour'""",
        "statuses_are_represented": "delete from features.aircraft_rotation where last_status = 'arrived'",
    },
    "training/flight_delay_spine": {
        "unique_flight_id": f"""insert into training.flight_delay_spine
            select * from training.flight_delay_spine where {_TRAINED}""",
        "required_is_complete": f"update training.flight_delay_spine set prediction_at = null where {_TRAINED}",
    },
    "training/flight_delay_training_set": {
        "no_missing_is_late": f"update training.flight_delay_training_set set is_late = null where {_TRAINED}",
        "valid_split": f"update training.flight_delay_training_set set split = 'other' where {_TRAINED}",
        "unique_flight_id": f"""insert into training.flight_delay_training_set
            select * from training.flight_delay_training_set where {_TRAINED}""",
        "required_is_complete": f"update training.flight_delay_training_set set split = null where {_TRAINED}",
        "nothing_from_after_the_prediction": f"""update training.flight_delay_training_set
            set origin_weather__known_at = prediction_at + interval '1 second' where {_TRAINED}""",
        "label_is_of_the_future": f"""update training.flight_delay_training_set
            set prediction_at = label_known_at where {_TRAINED}""",
        "splits_keep_apart": f"""update training.flight_delay_training_set
            set split = 'validation' where {_TRAINED}""",
        "embargo_is_as_wide_as_the_delay": f"""update training.flight_delay_training_set
            set prediction_at = prediction_at - interval '3 days' where {_TRAINED}""",
        "label_agrees": f"update training.flight_delay_training_set set is_late = not is_late where {_TRAINED}",
        "rows_missing_of_spine": f"delete from training.flight_delay_training_set where {_TRAINED}",
        "rows_not_in_spine": f"""insert into training.flight_delay_training_set
            select * replace ('none' as flight_id) from training.flight_delay_training_set where {_TRAINED}""",
        "classes_are_balanced": "update training.flight_delay_training_set set is_late = true",
        "no_feature_tells_the_label": """update training.flight_delay_training_set
            set distance_mi = case when is_late then 900 else 100 end""",
        "origins_are_represented": "delete from training.flight_delay_training_set where origin = 'LGA'",
    },
    "features/airport_attributes": {
        "valid_altitude_ft": "update features.airport_attributes set altitude_ft = 20000 where airport = 'ABE'",
        "required_is_complete": """update staged.stg_airports set latitude = null where airport = 'ABE';
            update features.airport_attributes set latitude = null where airport = 'ABE'""",
        "unique_airport_known_at": """insert into features.airport_attributes
            select * from features.airport_attributes where airport = 'ABE'""",
        "newest_is_staged": """update features.airport_attributes
            set time_zone = 'America/Chicago' where airport = 'ABE'""",
    },
    "features/carrier_punctuality": {
        "carrier_is_listed": """insert into features.carrier_punctuality (carrier, known_at, flights_6h, flights_7d)
            select 'ZZ', known_at, 0, 0 from features.carrier_punctuality limit 1""",
        "required_is_complete": f"""update features.carrier_punctuality set flights_6h = null
            where {_oldest("carrier_punctuality")}""",
        "windows_are_nested": f"""update features.carrier_punctuality set flights_6h = flights_7d + 1
            where {_oldest("carrier_punctuality")}""",
        "shares_are_shares": f"""update features.carrier_punctuality set cancelled_share_6h = 1.5
            where {_oldest("carrier_punctuality")}""",
        "delays_are_plausible": f"""update features.carrier_punctuality set mean_arrival_delay_6h = 2000
            where {_oldest("carrier_punctuality", "late_share_6h is not null")}""",
        "recount_agrees": "update features.carrier_punctuality set flights_7d = flights_7d + 1",
        "week_is_full": "delete from features.carrier_punctuality where flights_7d >= 7",
    },
    "features/origin_congestion": {
        "origin_is_listed": """insert into features.origin_congestion
            (origin, known_at, departures_1h, departures_3h, departures_24h,
            cancellations_1h, cancellations_3h, cancellations_24h)
            select 'ZZZ', known_at, 0, 0, 0, 0, 0, 0 from features.origin_congestion limit 1""",
        "required_is_complete": f"""update features.origin_congestion set cancellations_3h = null
            where {_oldest("origin_congestion")}""",
        "windows_are_nested": f"""update features.origin_congestion set departures_1h = departures_3h + 1
            where {_oldest("origin_congestion", "departures_1h > 0")}""",
        "shares_are_shares": f"""update features.origin_congestion set late_share_1h = 1.5
            where {_oldest("origin_congestion", "departures_1h > 0")}""",
        "delays_are_plausible": f"""update features.origin_congestion set mean_departure_delay_1h = 2000
            where {_oldest("origin_congestion")}""",
        "recount_agrees": "update features.origin_congestion set departures_24h = departures_24h + 1 where departures_24h > 0",
        "origins_are_represented": "delete from features.origin_congestion where origin = 'LGA'",
    },
    "features/origin_weather": {
        "no_missing_temperature_f": """update staged.stg_weather set temperature_f = null;
            update features.origin_weather set temperature_f = null""",
        "no_missing_pressure_hpa": """update staged.stg_weather set pressure_hpa = null;
            update features.origin_weather set pressure_hpa = null""",
        "valid_strongest_wind_kt": f"""update features.origin_weather set strongest_wind_kt = 911
            where {_oldest("origin_weather")}""",
        "required_is_complete": f"""update features.origin_weather set known_at = null
            where {_oldest("origin_weather")}""",
        "unique_origin_known_at": f"""insert into features.origin_weather
            select * from features.origin_weather where {_oldest("origin_weather")}""",
        "known_after_it_was_observed": f"""update features.origin_weather set known_at = observed_at
            where {_oldest("origin_weather", "origin = 'EWR'")}""",
        "readings_agree": f"""update features.origin_weather set dew_point_spread_f = -1
            where {_oldest("origin_weather")}""",
        "report_was_staged": f"""update features.origin_weather set temperature_f = temperature_f + 1
            where {_oldest("origin_weather")}""",
        "pressure_changes_slowly": f"""update features.origin_weather set pressure_change_3h = 50
            where {_oldest("origin_weather")}""",
        "stations_are_represented": "delete from features.origin_weather where origin = 'LGA'",
    },
    "features/route_punctuality": {
        "destination_is_listed": """insert into features.route_punctuality (origin, dest, known_at, flights_28d)
            select origin, 'ZZZ', known_at, 0 from features.route_punctuality limit 1""",
        "valid_mean_air_time_28d": f"""update features.route_punctuality set mean_air_time_28d = 3000
            where {_oldest("route_punctuality")}""",
        "required_is_complete": f"""update features.route_punctuality set flights_28d = null
            where {_oldest("route_punctuality")}""",
        "shares_are_shares": f"""update features.route_punctuality set cancelled_share_28d = 1.5
            where {_oldest("route_punctuality")}""",
        "recount_agrees": "update features.route_punctuality set flights_28d = flights_28d + 1 where flights_28d > 0",
    },
    "features/scheduled_flight_history": {
        "valid_scheduled_hour": """insert into features.scheduled_flight_history
            (carrier, origin, dest, scheduled_hour, known_at, flights_60d)
            select carrier, origin, dest, 24, known_at, 0 from features.scheduled_flight_history limit 1""",
        "required_is_complete": f"""update features.scheduled_flight_history set flights_60d = null
            where {_oldest("scheduled_flight_history")}""",
        "shares_are_shares": f"""update features.scheduled_flight_history set cancelled_share_60d = 1.5
            where {_oldest("scheduled_flight_history")}""",
        "delays_are_plausible": """update features.scheduled_flight_history
            set mean_arrival_delay_60d = mean_arrival_delay_60d + 2000""",
        "recount_agrees": """update features.scheduled_flight_history
            set flights_60d = flights_60d + 1 where flights_60d > 0""",
    },
}

COMPANIONS: dict[str, dict[str, set[str]]] = {
    "raw/flights": {"valid_origin": {"weather_of_the_hour_exists"}},
    "raw/weather": {
        "key_is_complete": {"hours_without_report"},
        "unique_origin_time_hour": {"unique_local_hour"},
    },
    "staged/stg_airlines": {"no_missing_carrier": {"carriers_as_in_raw"}},
    "staged/stg_flights": {
        "rows_missing_of_raw": {"sums_other_than_raw"},
        "late_share": {"label_agrees"},
    },
    "staged/stg_planes": {"no_missing_tailnum": {"aircraft_as_in_raw"}},
    "features/scheduled_flight_history": {"delays_are_plausible": {"recount_agrees"}},
    "training/flight_delay_training_set": {
        "no_missing_is_late": {"label_agrees"},
        "embargo_is_as_wide_as_the_delay": {"nothing_from_after_the_prediction"},
        "classes_are_balanced": {"label_agrees"},
        "origins_are_represented": {"rows_missing_of_spine"},
    },
}
