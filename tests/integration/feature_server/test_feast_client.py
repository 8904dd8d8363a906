"""Feast's own client, unchanged, with ``online_store: {type: remote}``, against the server."""

import json
import subprocess
from pathlib import Path

import yaml

from orchestration.feature_store.server import new_key
from tests.integration.feature_server.processes import running

HERE = Path(__file__).parent
SHOP = ("-m", "tests.integration.feature_server.shop_process")
PRESENT, NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE = 1, 2, 3, 4


def test_the_real_feast_client_reads_features_services_and_reasons(tmp_path, feast_python):
    key, digest = new_key("feast")
    (tmp_path / "keys.yml").write_text(
        yaml.safe_dump(
            {"roles": {"all": {"read": ["*"]}}, "keys": [{"name": "feast", "role": "all", "sha256": digest}]}
        )
    )
    environment = {"GROUNDWORK_SERVER_KEYS_FILE": str(tmp_path / "keys.yml")}
    with running([*SHOP, str(tmp_path), "1", "0"], tmp_path, environment) as server:
        done = subprocess.run(
            [str(feast_python), str(HERE / "feast_client.py"), str(tmp_path / "repo"), server.address, key],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["plain"]["values"] == {
        "buyer": [1, 2, 3],
        "orders": [7, None, None],
        "spent": [12.5, None, None],
        "ratio": [None, None, None],
        "last_at": [1_714_471_200, None, None],
        "name": [None, None, None],
    }
    of_a_value = [PRESENT, OUTSIDE_MAX_AGE, NOT_FOUND]
    of_null = [NULL_VALUE, OUTSIDE_MAX_AGE, NOT_FOUND]
    assert found["plain"]["statuses"] == [[PRESENT] * 3, *[of_a_value] * 4, of_null]
    assert found["full"]["values"] == {"buyer": [1], "buyers__orders": [7]}
    assert found["composite"]["values"] == {
        "store": ["north"], "day": [1_714_521_600], "left": [3], "is_open": [True],
    }  # fmt: skip
    assert found["service"]["values"]["payer__orders"] == [7]
    assert found["service"]["values"]["payee__orders"] == [None]
    ((at, kinds),) = found["read"]
    assert at == "2024-05-01T11:30:00.250000+00:00"
    assert (kinds["orders"], kinds["last_at"], kinds["name"]) == ("int64_val", "unix_timestamp_val", None)
    assert "404" in found["unknown"]
    assert "did you mean orders" in found["unknown"]
    callers = {json.loads(line)["caller"] for line in (tmp_path / "access.jsonl").read_text().splitlines()}
    assert callers == {"feast", "-"}  # - asked for /health
