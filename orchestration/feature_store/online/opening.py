"""Which online store the settings name.

What belongs here: that choice. What does not: the stores.
"""

from orchestration.feature_store.online.lmdb_store import LmdbStore
from orchestration.feature_store.online.store import OnlineStore
from orchestration.settings import Settings


def store_kind(settings: Settings) -> str:
    """``redis`` or ``lmdb``."""
    return "redis" if settings.online_store_redis_url is not None else "lmdb"


def open_online_store(settings: Settings) -> OnlineStore:
    """Redis if the settings have its address, else LMDB under ``data_dir``; it connects on first use."""
    if settings.online_store_redis_url is None:
        return LmdbStore(settings.online_dir)
    # Half a second for those who use it.
    from orchestration.feature_store.online.redis_store import RedisStore  # noqa: PLC0415

    return RedisStore(settings.online_store_redis_url.get_secret_value(), settings.online_store_redis_prefix)
