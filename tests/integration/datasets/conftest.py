import pytest

from tests.integration.datasets.orders import Orders


@pytest.fixture
def orders(tmp_path):
    orders = Orders(tmp_path / "data")
    yield orders
    orders.lakehouse.teardown_after_execution(None)
