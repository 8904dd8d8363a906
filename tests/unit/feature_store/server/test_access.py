"""Who may do what, by keys and roles."""

import base64
import re

import pytest
import yaml

from orchestration.feature_store.server import KeysFault, ServingFault, access, check_exposure, new_key
from orchestration.settings import Settings
from tests.unit.feature_store.server.counter_of_a_shop import ask, call, open_shop

ROLES = {
    "clerk": {"read": ["stock"], "push": ["orders"]},
    "manager": {"read": ["*"], "push": ["*"]},
    "guest": {},
}


def keyed_shop(folder, *callers, roles=ROLES, **settings):
    """A shop with a key for each (name, role), and the keys by name."""
    keys, listed = {}, []
    for name, role, *limit in callers:
        keys[name], digest = new_key(name)
        listed.append({"name": name, "role": role, "sha256": digest})
        if limit:
            listed[-1]["requests_per_second"] = limit[0]
    path = folder / "keys.yml"
    path.write_text(yaml.safe_dump({"roles": dict(roles), "keys": listed}))
    return open_shop(folder, server_keys_file=path, **settings), keys


def test_a_role_reads_its_views_and_pushes_to_its_sources_only(tmp_path):
    shop, keys = keyed_shop(tmp_path, ("till", "clerk"), ("boss", "manager"), ("door", "guest"))
    stock = (["stock:left"], {"store": ["north"], "day": ["2024-05-01"]})
    buyers = (["buyers:orders"], {"buyer": [1]})
    assert ask(shop, *stock, key=keys["till"]).status == 200
    closed = ask(shop, *buyers, key=keys["till"])
    assert (closed.status, closed.json["error"]) == (403, "till may not read buyers")
    service = {"payer_id": [1], "payee_id": [1], "amount": [1]}
    assert ask(shop, "payments", service, key=keys["till"]).status == 403
    assert ask(shop, *buyers, key=keys["boss"]).status == 200
    assert ask(shop, *stock, key=keys["door"]).status == 403

    def push(source, key):
        body = {"push_source_name": source, "df": {"id": [1]}}
        return call(shop, "POST", "/push", body, key=key).status

    assert [push("orders", keys["till"]), push("returns", keys["till"])] == [200, 403]
    assert [push("returns", keys["boss"]), push("orders", keys["door"])] == [200, 403]


def test_a_caller_learns_nothing_of_views_that_are_closed_to_it(tmp_path):
    shop, keys = keyed_shop(tmp_path, ("till", "clerk"))
    for wrong in (["stock:lft"], ["stok:left"], ["buyers:ordrs"], ["byers:orders"], "payment"):
        got = ask(shop, wrong, {"store": ["north"], "day": ["2024-05-01"]}, key=keys["till"])
        assert got.status == 404
        hints = got.json["error"].split("?" if "mean" in got.json["error"] else "Known")[-1]
        assert not {"buyers", "payments", "orders"} & set(re.findall(r"\w+", hints)), got.json
    assert "did you mean stock" in ask(shop, ["stok:left"], {"store": [""]}, key=keys["till"]).json["error"]
    shop.unready.append("buyers: never materialized")
    assert call(shop, "GET", "/ready").json == {"status": "not ready"}


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json"])
def test_without_a_right_key_only_health_and_ready_answer(tmp_path, path):
    shop, keys = keyed_shop(tmp_path, ("till", "clerk"), ("boss", "manager"))
    secret = keys["till"].split(".", 1)[1]
    wrong = [None, "", "till", "till.", f"boss.{secret}", f"nobody.{secret}", secret, keys["till"] + "x"]
    answers = {call(shop, "GET", path, key=key).body for key in wrong}
    assert len(answers) == 1, "the answer tells which part was wrong"
    refused = call(shop, "GET", path, headers={"authorization": "Basic !"})
    assert (refused.status, refused.headers["www-authenticate"][:5]) == (401, "Basic")
    assert call(shop, "GET", path, key=keys["till"]).status == 200
    assert {call(shop, "GET", open_path).status for open_path in ("/health", "/ready")} == {200}


def test_a_browser_gives_its_key_as_user_and_password(tmp_path):
    shop, keys = keyed_shop(tmp_path, ("till", "clerk"))
    name, secret = keys["till"].split(".", 1)
    for password in (secret, keys["till"]):
        basic = base64.b64encode(f"{name}:{password}".encode()).decode()
        assert call(shop, "GET", "/metrics", headers={"authorization": f"Basic {basic}"}).status == 200


def test_neither_file_nor_log_holds_a_secret_and_the_log_names_the_caller(tmp_path):
    shop, keys = keyed_shop(tmp_path, ("till", "clerk"))
    secret = keys["till"].split(".", 1)[1]
    assert call(shop, "GET", "/metrics", key=keys["till"]).status == 200
    assert call(shop, "GET", "/metrics", key=f"till.{secret}x").status == 401
    assert [(line["caller"], line["status"]) for line in shop.lines()] == [("till", 200), ("-", 401)]
    for held in (shop.log, tmp_path / "keys.yml"):
        assert secret not in held.read_text()


def test_a_caller_has_so_many_requests_in_a_second(tmp_path, monkeypatch):
    shop, keys = keyed_shop(tmp_path, ("till", "clerk"), ("boss", "manager", 3), server_requests_per_second=2)
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])

    def statuses(name, times):
        return [call(shop, "GET", "/openapi.json", key=keys[name]).status for _ in range(times)]

    assert statuses("till", 3) == [200, 200, 429]
    assert statuses("boss", 4) == [200, 200, 200, 429]
    assert call(shop, "GET", "/metrics", key=keys["boss"]).headers["retry-after"] == "1"
    now[0] += 1
    assert statuses("till", 1) == [200]


def test_a_changed_keys_file_counts_without_a_restart(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(access, "_LOOK_SECONDS", 0)
    shop, keys = keyed_shop(tmp_path, ("till", "clerk"), ("boss", "manager"))
    path = tmp_path / "keys.yml"

    def status(name):
        return call(shop, "GET", "/openapi.json", key=keys[name]).status

    assert (status("till"), status("boss")) == (200, 200)
    declared = yaml.safe_load(path.read_text())
    keys["new"], digest = new_key("new")
    declared["keys"] = [
        {"name": "new", "role": "clerk", "sha256": digest, "requests_per_second": 1},
        *(key for key in declared["keys"] if key["name"] != "till"),
    ]
    replaced = tmp_path / "keys.part"
    replaced.write_text(yaml.safe_dump(declared))
    replaced.replace(path)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert [status("till"), status("boss"), status("new"), status("new")] == [401, 200, 200, 429]
    for damaged in ("- [", "roles: {}\nkeys: []", None):
        caplog.clear()
        if damaged is None:
            path.unlink()
        else:
            path.write_text(damaged)
        assert [status("boss"), status("boss"), status("till")] == [200, 200, 401]
        (told,) = [record.getMessage() for record in caplog.records]
        assert "the keys before it go on to count" in told
        assert str(path) in told
    path.write_text(yaml.safe_dump({**declared, "keys": declared["keys"][:1]}))
    assert status("boss") == 401


def test_a_keys_file_that_cannot_be_used_names_every_fault(tmp_path):
    path = tmp_path / "keys.yml"
    path.write_text(
        yaml.safe_dump(
            {
                "roles": {"clerk": {"read": ["stok"], "push": ["parcels"]}},
                "keys": [
                    {"name": "till", "role": "clark", "sha256": "0" * 64},
                    {"name": "till", "role": "clerk", "sha256": "0" * 64},
                ],
            }
        )
    )
    with pytest.raises(KeysFault) as found:
        open_shop(tmp_path, server_keys_file=path)
    for words in (
        "roles.clerk.read: found 'stok', expected one of buyers, clocks, stock",
        "roles.clerk.push: found 'parcels', expected one of orders, returns",
        "keys.till.role: found 'clark', expected one of clerk",
        "found till twice",
    ):
        assert words in str(found.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("roles: {}\nkeys: []", "keys"),
        ("roles: {a: {reed: []}}\nkeys: [{name: x, role: a, sha256: ''}]", "unknown key 'reed'"),
        ("roles: {a: {}}\nkeys: [{name: X, role: a, sha256: x}]", "small letters"),
        ("- [", "keys.yml"),
    ],
)
def test_a_keys_file_of_another_form_is_refused(tmp_path, text, words):
    path = tmp_path / "keys.yml"
    path.write_text(text)
    with pytest.raises(KeysFault, match=words):
        open_shop(tmp_path, server_keys_file=path)


@pytest.mark.parametrize(("host", "is_refused"), [
    ("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("10.0.0.5", True),
    ("::", True), ("features.example", True),
])  # fmt: skip
def test_without_keys_the_server_binds_to_this_machine_only(tmp_path, host, is_refused):
    settings = Settings(server_host=host)
    if is_refused:
        with pytest.raises(ServingFault, match="GROUNDWORK_SERVER_KEYS_FILE"):
            check_exposure(settings)
    else:
        check_exposure(settings)
    check_exposure(Settings(server_host=host, server_keys_file=tmp_path / "keys.yml"))


def test_certificate_and_key_go_together(tmp_path):
    with pytest.raises(ValueError, match="go together"):
        Settings(server_tls_certificate=tmp_path / "cert.pem")
