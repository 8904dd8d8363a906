"""What processes do that are killed while they write a dataset version."""

from pathlib import Path

from orchestration.learning.datasets import building, store
from orchestration.learning.datasets.store import DatasetStore
from tests.integration.datasets.orders import Orders
from tests.killing import die, then_die


def at_moment(moment):
    """Arrange for this process to be killed at a moment of its next build."""
    match moment:
        case "before a shard":
            building._shard = die
        case "after the shards":
            building.read_back = die
        case "before the manifest":
            DatasetStore.publish = die
        case "in the middle of the manifest":
            whole = store.write_synced
            store.write_synced = lambda path, text: (whole(path, text[: len(text) // 2]), die())
        case "before the name":
            Path.rename = die
        case "after the name":
            Path.rename = then_die(Path.rename)
        case "in the middle of the log":
            store.DatasetStore.note = half_a_line
        case "after the log":
            store.DatasetStore.note = then_die(store.DatasetStore.note)


def half_a_line(self, dataset, build):
    with (self.root / dataset / "builds.jsonl").open("a") as log:
        log.write(build.model_dump_json()[:100])
    die()


def build_once(folder, moment):
    """Build, and be killed at that moment."""
    at_moment(moment)
    Orders(folder, 0).build()


def build_for_ever(folder, started):
    """Add a row and build, again and again."""
    orders = Orders(folder, 0)
    number = orders.rows("select max(order_id) from staged.orders")[0][0]
    while True:
        number += 1
        orders.append(number, 1)
        orders.build()
        started.set()
