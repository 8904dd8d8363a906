"""The lakehouse: the one DuckLake store of every layer.

What belongs here: connecting, transactions, content hashes, time travel, maintenance. What does
not: what a table means, who fills it, or when.
"""

from orchestration.lakehouse.attachment import LAKE, Attachment
from orchestration.lakehouse.resource import (
    LakehouseResource,
    in_transaction,
    is_lock_conflict,
    retry_on_conflict,
)
from orchestration.lakehouse.tables import (
    Column,
    content_hash,
    current_snapshot,
    describe_table,
    last_change,
    row_count,
    table_exists,
)

__all__ = [
    "LAKE",
    "Attachment",
    "Column",
    "LakehouseResource",
    "content_hash",
    "current_snapshot",
    "describe_table",
    "in_transaction",
    "is_lock_conflict",
    "last_change",
    "retry_on_conflict",
    "row_count",
    "table_exists",
]
