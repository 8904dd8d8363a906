"""What the server takes, what it counts, and what it writes down."""

import asyncio
import json
import sys

import pytest

from orchestration.feature_store.online.store import NotMaterializedError
from orchestration.feature_store.server.counters import Counters
from tests.unit.feature_store.server.counter_of_a_shop import ask, call, open_shop


@pytest.fixture
def shop(tmp_path):
    return open_shop(tmp_path)


def test_too_many_rows_or_bytes_are_refused(tmp_path):
    shop = open_shop(tmp_path, server_max_rows=2, server_max_body_bytes=100)
    assert ask(shop, ["buyers:orders"], {"buyer": [1, 2]}).status == 200
    many = ask(shop, ["buyers:orders"], {"buyer": [1, 2, 3]})
    assert (many.status, many.json["error"]) == (413, "entities: found 3 rows, expected at most 2")
    assert call(shop, "POST", "/get-online-features", b" " * 101).status == 413
    assert call(shop, "POST", "/get-online-features", chunks=[b" " * 60, b" " * 60]).status == 413
    assert shop.shelf.asked == [(("buyers:orders",), {"buyer": [1, 2]})]


def test_a_body_may_come_in_pieces(shop):
    pieces = [b'{"features": ["buyers:orders"], ', b'"entities": ', b'{"buyer": [1]}}']
    assert call(shop, "POST", "/get-online-features", chunks=pieces).status == 200


def test_a_caller_who_hangs_up_gets_no_answer_and_breaks_nothing(shop):
    said = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        said.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/push", "headers": headers}
    asyncio.run(shop.server(scope, receive, send))
    assert said == []


def test_a_page_in_a_browser_can_neither_post_a_form_nor_come_by_another_name(shop):
    body = {"push_source_name": "orders", "df": {"id": [1]}}
    assert call(shop, "POST", "/push", body, headers={"content-type": "text/plain"}).status == 415
    assert call(shop, "POST", "/push", body, headers={"host": "rebound.example:6566"}).status == 421
    assert call(shop, "GET", "/health", headers={"host": "rebound.example"}).status == 421
    assert call(shop, "GET", "/health", headers={"host": "[::1]:6566"}).status == 200
    assert shop.pushed == []


def test_other_paths_and_methods_are_told_what_there_is(shop):
    lost = call(shop, "GET", "/features")
    assert (lost.status, "/get-online-features" in lost.json["error"]) == (404, True)
    wrong = call(shop, "GET", "/push")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


def test_pushed_rows_go_to_their_source(shop):
    df = {"id": [1, 2], "item": ["a", None]}
    body = {"push_source_name": "orders", "df": df, "to": "online_and_offline", "allow_registry_cache": True}
    got = call(shop, "POST", "/push", body)
    assert (got.status, got.json) == (200, {"delivery": "push-1.jsonl", "rows": 2})
    assert shop.pushed == [("orders", df)]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"df": {"id": [1]}}, 422, "push_source_name"),
        ({"push_source_name": "weather", "df": {"id": [1]}}, 404, "Known: orders, returns"),
        ({"push_source_name": "orders"}, 422, "df: found nothing"),
        ({"push_source_name": "orders", "df": {"id": [1], "x": [1, 2]}}, 422, "df.x: found 2 values"),
        ({"push_source_name": "orders", "df": {"id": [1]}, "to": "nowhere"}, 422, "to: expected one of"),
        ({"push_source_name": "orders", "df": {"bad": [1]}}, 422, "found column 'bad'"),
    ],
)
def test_rows_that_cannot_be_taken_are_refused_in_words(shop, body, status, words):
    got = call(shop, "POST", "/push", body)
    assert (got.status, words in got.json["error"]) == (status, True), got.json
    assert shop.pushed == []


def test_health_is_the_process_and_ready_is_the_store(shop):
    assert call(shop, "GET", "/health").status == 200
    assert call(shop, "GET", "/ready").json == {"status": "ready"}
    shop.unready.append("buyers: never materialized")
    got = call(shop, "GET", "/ready")
    assert (got.status, got.json["reasons"]) == (503, ["buyers: never materialized"])
    assert call(shop, "GET", "/health").status == 200


def test_a_store_that_cannot_answer_is_a_503_and_a_fault_of_the_server_a_500_without_details(shop):
    shop.shelf.fault = NotMaterializedError("buyers")
    assert ask(shop, ["buyers:orders"], {"buyer": [1]}).status == 503
    shop.shelf.fault = KeyError("a detail")
    got = ask(shop, ["buyers:orders"], {"buyer": [1]})
    assert (got.status, got.json) == (500, {"error": "the server failed; its log says why"})


def test_the_access_log_has_who_what_and_how_and_no_value(shop):
    ask(shop, ["stock:left", "stock:is_open"], {"store": ["secret", "north"], "day": ["2024-05-01"] * 2})
    call(shop, "GET", "/secret")
    first, second = shop.lines()
    assert first.pop("microseconds") > 0
    assert first.pop("at").endswith("Z")
    assert first == {
        "caller": "anybody", "route": "/get-online-features", "status": 200, "rows": 2, "features": 2,
    }  # fmt: skip
    assert (second["route"], second["status"], second["caller"]) == ("other", 404, "-")
    assert "secret" not in shop.log.read_text()


def test_metrics_count_requests_latencies_rows_and_statuses_by_view(shop):
    ask(shop, ["buyers:orders", "buyers:name"], {"buyer": [1, 1, 3]})
    ask(shop, ["buyers:orders"], {"buyer": [2]})
    ask(shop, ["buyers:nothing"], {"buyer": [2]})
    call(shop, "POST", "/push", {"push_source_name": "orders", "df": {"id": [1, 2]}})
    got = call(shop, "GET", "/metrics")
    assert got.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = dict(line.rsplit(" ", 1) for line in got.body.decode().splitlines() if not line.startswith("#"))
    route = 'route="/get-online-features"'
    assert samples[f'groundwork_server_requests_total{{{route},status="200"}}'] == "2"
    assert samples[f'groundwork_server_requests_total{{{route},status="404"}}'] == "1"
    assert samples["groundwork_server_entity_rows_total"] == "4"
    assert samples['groundwork_server_pushed_rows_total{source="orders"}'] == "2"
    values = {s: samples.get(f'groundwork_server_values_total{{view="buyers",status="{s}"}}') for s in
              ("PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE")}  # fmt: skip
    assert values == {"PRESENT": "2", "NULL_VALUE": "2", "NOT_FOUND": "2", "OUTSIDE_MAX_AGE": "1"}
    assert samples[f"groundwork_server_request_seconds_count{{{route}}}"] == "3"
    assert samples[f'groundwork_server_request_seconds_bucket{{{route},le="+Inf"}}'] == "3"
    assert float(samples[f"groundwork_server_request_seconds_sum{{{route}}}"]) > 0
    families = {line.split()[2] for line in got.body.decode().splitlines() if line.startswith("# TYPE")}
    assert {name.split("{")[0].removesuffix("_sum").removesuffix("_count").removesuffix("_bucket")
            for name in samples} <= families  # fmt: skip


def test_the_openapi_document_names_routes_features_and_services(shop):
    document = call(shop, "GET", "/openapi.json").json
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    assert schemas["FeaturesRequest"]["properties"]["features"]["examples"][0][0] == "buyers:orders"
    assert schemas["FeaturesRequest"]["properties"]["feature_service"]["enum"] == ["payments"]
    assert schemas["Push"]["properties"]["push_source_name"]["enum"] == ["orders", "returns"]
    routes = {path for path in document["paths"] if call(shop, "DELETE", path).status == 405}
    assert routes == set(document["paths"])


def test_counters_of_several_processes_add_up_and_outlive_them(tmp_path):
    names = ["a", "b"]
    path = tmp_path / "counters"
    first = Counters(path, names, 2)
    first.mine[first.index["b"]] += 3
    # Locks on a file are a process's own: another process is needed to be refused the first row.
    read, write = asyncio.run(_count_in_another_process(path, names))
    assert (read, write) == ({"a": 0, "b": 3}, {"a": 5, "b": 3})
    assert first.totals() == {"a": 5, "b": 3}
    assert first.cells(0) == [0, 5]


async def _count_in_another_process(path, names):
    code = (
        "import json, sys; from pathlib import Path\n"
        "from orchestration.feature_store.server.counters import Counters\n"
        f"c = Counters(Path({str(path)!r}), {names!r}, 2); before = c.totals(); c.mine[0] += 5\n"
        "print(json.dumps([before, c.totals()]))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return json.loads(out)
