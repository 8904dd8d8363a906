"""The shop's feature server as a process of its own: ``python -m ... FOLDER WORKERS SECONDS_A_READ``."""

import sys
from functools import partial
from pathlib import Path

from orchestration.feature_store.server import FeatureServer, serve
from orchestration.settings import Settings
from tests.unit.feature_store.server.counter_of_a_shop import open_shop


def make_app(folder: Path, workers: int, delay: float) -> FeatureServer:
    shop = open_shop(folder, server_workers=workers)
    shop.shelf.delay = delay
    return shop.server


if __name__ == "__main__":
    folder, workers, delay = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    serve(Settings(server_workers=workers), partial(make_app, folder, workers, delay))
