"""Requests and responses have Feast's form, and what does not is refused in words."""

import pytest

from tests.unit.feature_store.server.counter_of_a_shop import NOW, ask, call, open_shop


@pytest.fixture
def shop(tmp_path):
    return open_shop(tmp_path)


def test_an_answer_has_the_join_key_first_and_a_column_a_feature(shop):
    got = ask(shop, ["buyers:orders", "buyers:name"], {"buyer": [1, 2, 3]})
    assert got.status == 200
    assert got.headers["content-type"] == "application/json"
    at, old, epoch = "2024-05-01T11:30:00.250000Z", "2024-05-01T10:00:00Z", "1970-01-01T00:00:00Z"
    assert got.json == {
        "metadata": {"feature_names": ["buyer", "orders", "name"]},
        "results": [
            {"values": [1, 2, 3], "statuses": ["PRESENT"] * 3, "event_timestamps": [epoch] * 3},
            {
                "values": [7, None, None],
                "statuses": ["PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"],
                "event_timestamps": [at, old, epoch],
            },
            {
                "values": [None, None, None],
                "statuses": ["NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND"],
                "event_timestamps": [at, old, epoch],
            },
        ],
    }


def test_instants_and_days_are_seconds_decimals_are_numbers_and_nan_is_a_present_null(shop):
    got = ask(shop, ["buyers:*"], {"buyer": [1]}).json
    columns = dict(zip(got["metadata"]["feature_names"], got["results"], strict=True))
    assert columns["spent"]["values"] == [12.5]
    assert columns["last_at"]["values"] == [1_714_471_200]
    assert columns["born_on"]["values"] == [660_787_200]
    assert (columns["ratio"]["values"], columns["ratio"]["statuses"]) == ([None], ["PRESENT"])
    assert (columns["name"]["values"], columns["name"]["statuses"]) == ([None], ["NULL_VALUE"])


def test_full_names_have_the_view_before_the_feature(shop):
    got = ask(shop, ["buyers:orders"], {"buyer": [1]}, full_feature_names=True)
    assert got.json["metadata"]["feature_names"] == ["buyer", "buyers__orders"]


@pytest.mark.parametrize("day", ["2024-05-01", 1_714_521_600])
def test_a_day_as_key_is_a_text_or_seconds(shop, day):
    got = ask(shop, ["stock:left"], {"store": ["north"], "day": [day]})
    assert got.json["results"][2]["values"] == [3]
    assert got.json["results"][1]["values"] == [day]


@pytest.mark.parametrize("at", ["2024-05-01T12:00:00Z", "2024-05-01T14:00:00+02:00", int(NOW.timestamp())])
def test_an_instant_as_key_is_a_text_with_an_offset_or_seconds(shop, at):
    assert ask(shop, ["clocks:tick"], {"at": [at]}).json["results"][1]["values"] == [1]


def test_a_service_is_asked_for_by_name_with_its_roles_and_request_columns(shop):
    got = ask(shop, "payments", {"payer_id": [1], "payee_id": [3], "amount": [10.5]})
    assert got.json["metadata"]["feature_names"] == [
        "payer_id", "payee_id", "payer__orders", "payee__orders", "per_order",
    ]  # fmt: skip
    assert [r["values"] for r in got.json["results"]] == [[1], [3], [7], [None], [1.5]]


def test_a_key_of_another_view_may_come_along(shop):
    got = ask(shop, ["buyers:orders"], {"buyer": [1], "store": ["north"]})
    assert got.status == 200
    assert shop.shelf.asked == [(("buyers:orders",), {"buyer": [1]})]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "no JSON"),
        (b"[]", 400, "the body is a list, expected an object"),
        ({"features": ["buyers:orders"]}, 422, "entities: found nothing"),
        ({"features": ["buyers:orders"], "entities": {}}, 422, "entities: found an object"),
        ({"features": ["buyers:orders"], "entities": []}, 422, "entities: found a list"),
        ({"features": ["buyers:orders"], "entities": {"buyer": 1}}, 422, "entities.buyer: found a number"),
        ({"features": ["buyers:orders"], "entities": {"buyer": []}}, 422, "found no row"),
        ({"features": ["stock:left"], "entities": {"store": ["a"], "day": [1, 2]}}, 422, "found 2 values"),
        ({"features": ["buyers:orders"], "entities": {"buyer": ["1"]}}, 422, "buyer: found a text, expected"),
        ({"features": ["buyers:orders"], "entities": {"buyr": [1]}}, 422, "no column buyer"),
        ({"features": ["buyers:orders"], "entities": {"buyer": [1], "x": [1]}}, 422, "unknown column x"),
        ({"features": ["stock:left"], "entities": {"store": ["a"], "day": ["May"]}}, 422, "entities.day: row 0"),
        ({"features": ["clocks:tick"], "entities": {"at": ["2024-05-01T12:00:00"]}}, 422, "entities.at: row 0"),
        ({"features": ["clocks:tick"], "entities": {"at": [10**18]}}, 422, "entities.at: row 0"),
        ({"features": ["buyers:ordrs"], "entities": {"buyer": [1]}}, 404, "did you mean orders"),
        ({"features": ["byers:orders"], "entities": {"buyer": [1]}}, 404, "did you mean buyers"),
        ({"feature_service": "payment", "entities": {"buyer": [1]}}, 404, "did you mean payments"),
        ({"features": ["orders"], "entities": {"buyer": [1]}}, 422, "expected view:feature"),
        ({"features": ["buyers:orders"] * 2, "entities": {"buyer": [1]}}, 422, "asked for twice"),
        ({"features": "buyers:orders", "entities": {"buyer": [1]}}, 422, "features: expected a list"),
        ({"entities": {"buyer": [1]}}, 422, "found neither"),
        ({"features": ["a:b"], "feature_service": "c", "entities": {"buyer": [1]}}, 422, "found both"),
        ({"features": ["a:b"], "entities": {"buyer": [1]}, "full_names": True}, 422, "unknown key 'full_names'"),
        ({"features": ["a:b"], "entities": {"a": [1]}, "full_feature_names": 1}, 422, "expected true or false"),
    ],
)  # fmt: skip
def test_what_has_another_form_is_refused_in_words(shop, body, status, words):
    got = call(shop, "POST", "/get-online-features", body)
    assert (got.status, words in got.json["error"]) == (status, True), got.json


def test_a_refusal_names_no_value(shop):
    got = ask(shop, ["stock:left"], {"store": ["secret"], "day": ["a secret"]})
    assert got.status == 422
    assert "secret" not in got.json["error"]
