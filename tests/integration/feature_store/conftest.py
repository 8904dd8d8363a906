"""Fixtures of the feature store's integration tests."""

import os

import pytest

from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.redis_store import RedisStore
from tests.integration.feature_store.stores import by_turns


@pytest.fixture(params=["lmdb", "redis"])
def open_store(request, tmp_path):
    """Opens the same online store again and again, as so many processes would."""
    if request.param == "lmdb":
        stores = []

        def opened():
            stores.append(LmdbStore(tmp_path / "online", by_turns))
            return stores[-1]

    else:
        url, prefix = request.getfixturevalue("redis_url"), f"test-{os.urandom(6).hex()}"
        stores = []

        def opened():
            stores.append(RedisStore(url, prefix))
            return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def any_store(open_store):
    """The online store, once in LMDB and once in Redis."""
    return open_store()


@pytest.fixture
def store(tmp_path):
    """The embedded online store, for what does not depend on where values are."""
    return LmdbStore(tmp_path / "online", by_turns)
