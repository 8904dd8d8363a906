"""One contract file a table: its format, and what is read from it.

What belongs here: the format (this text), and the read contract as the rest of the room uses it. What
does not: how a file is read (``loading``, ``reading``, ``model``).

Files are ``soda_checks/<layer>/<table>.yml``, one for every declared table;
a missing one and a surplus one are faults. They are Soda 4 contracts, but that checks of one type may
have a ``name`` in place of a ``qualifier``. Every key that is not named here is a fault, with file and line::

    dataset: lake/<schema>/<table>    # agrees with the file's place
    description: One sentence.        # optional
    check_attributes:                 # optional
      window_column: event_at         # only to override a partitioned table's window column: a source's
                                      # ingest.event_time, a feature view's timestamp, a training
                                      # set's label_known_at, a spine's partition_by, else event_at
    columns:                          # the columns that have checks of their own; may be []
      - name: seat
        checks:
          - missing:                  # keys may be left out: no seat may be missing
    checks:                           # checks of the whole table; a row_count is required
      - row_count:

Checks of a column
    ``missing``: ``missing_values: [..]``, ``missing_format: {regex, name}``.
    ``invalid``: ``valid_values``, ``invalid_values``, ``valid_format``, ``invalid_format``, ``valid_min``,
    ``valid_max`` (numbers), ``valid_length``, ``valid_min_length``, ``valid_max_length`` (texts): a value
    that breaks any is invalid, a missing one is not. Or, alone and without a filter,
    ``valid_reference_data: {dataset: lake/<schema>/<table>, column}``.
    ``duplicate``: counts surplus values; nulls are no duplicates.
    ``aggregate``: ``function: avg|sum|min|max|avg_length|min_length|max_length`` and a threshold.

Checks of the table
    ``row_count``: default more than 0.
    ``schema``: names, order and types are exactly the declared ones; ``allow_extra_columns``,
    ``allow_other_column_order``. Ours, not Soda's, whose comparison of types is loose.
    ``freshness``: ``column``, ``threshold: {unit: minute|hour|day, ...}``; age on the platform's clock.
    ``duplicate``: ``columns: [..]``; counts surplus rows; nulls are equal.
    ``failed_rows``: ``expression`` (a row for which it is true fails) or ``query`` (returns what fails).
    ``metric``: ``expression`` (one aggregate over the table) or ``query`` (returns one number); a
    threshold. Expressions, and all other checks but queries and references, share one scan.

Keys of every check
    ``name`` (``[a-z][a-z0-9_]*``): the Dagster check's name. Of failed_rows and metric, one of name and
    qualifier is required, and the qualifier is the name when alone; else ``no_missing_<column>``,
    ``valid_<column>``, ``unique_<column>``, ``<function>_<column>``, ``fresh_<column>``, ``row_count``,
    ``schema``, and ``_<qualifier>``; ``_`` stands for each character but ASCII letters and digits.
    ``qualifier``: ends the name of a check that has no ``name``. Names differ within a file; two checks of
    one type on one column, or on the table, need no more than that.
    ``filter``: only rows for which it is true are tested. Not on schema, metric and queries, where
    Soda ignores it: write ``filter (where ..)`` and ``where`` there.
    ``threshold``: one of ``must_be``, ``must_not_be``, ``must_be_greater_than[_or_equal]``,
    ``must_be_less_than[_or_equal]``, ``must_be_between: {greater_than[_or_equal],
    less_than[_or_equal]}``, ``must_be_not_between``; default ``must_be: 0``. ``metric: count|percent``
    for missing, invalid, duplicate of a column and failed_rows (with a query: and
    ``rows_tested_query``). ``level: fail|warn``: fail has severity ERROR and blocks what is downstream;
    warn has severity WARN and never blocks. For both levels write two checks; ``additional`` is a fault.
    ``attributes``: ``dimension`` (completeness, validity, uniqueness, consistency, timeliness, accuracy,
    representation; required for failed_rows and metric), ``description`` (one sentence for people),
    ``blocking: false`` (an ERROR that stops nothing), ``scope: partition|table``.

Windows
    A run of partitions tests the rows of its window; ``scope: table`` tests all rows, at a cost that
    grows with history. Schema and freshness always see the whole table. In SQL text ``<schema>.<table>``
    is what the run sees of a declared table, ``lake.<schema>.<table>`` always all of it. A table may
    name tables of its layer and of layers before it. A table that is not partitioned sees everything.

SQL text is bound against the declared tables and types when definitions load. ``${..}`` is a fault.
A value that is null fails its check, unless no rows were tested and every row_count admits none.

Groups against an expected share, in one check::

    - failed_rows:
        name: shares_as_expected
        query: >
          select class, 100.0 * count(*) / sum(count(*)) over () as share from raw.seats group by class
          qualify share not between 10 and 60
        attributes: {dimension: representation}

Reconciliation with the layer before::

    - metric:
        name: rows_not_in_raw
        query: select (select count(*) from staged.seats) - (select count(*) from raw.seats)
        threshold: {must_be: 0}
        attributes: {dimension: consistency}

Values of columns classified confidential or personal never leave the lakehouse: samples mask them and
whatever is made of them, and a measured value that may tell one is hidden; counts (``count(..)``) and
tests for null are not. A set operation in a query masks its whole sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestration.quality.declared_lake import DeclaredTable
from orchestration.quality.model import (
    Body,
    DuplicateRows,
    FailedRows,
    Freshness,
    Invalid,
    Metric,
    Missing,
    Schema,
)
from orchestration.quality.sql_text import Query, TableRef
from orchestration.quality.thresholds import Threshold

_PARAGRAPH = 100


@dataclass(frozen=True)
class SqlPart:
    """One SQL text of a check, read: ``text`` is what stands in the file, without a prefix."""

    prefix: str
    query: Query
    windowed: Mapping[TableRef, DeclaredTable]
    whole: Mapping[TableRef, DeclaredTable]

    @property
    def text(self) -> str:
        """The text as in the file."""
        return self.query.text.removeprefix(self.prefix)

    @property
    def named(self) -> list[DeclaredTable]:
        """The tables named."""
        return [*self.windowed.values(), *self.whole.values()]

    @property
    def tables(self) -> frozenset[tuple[str, str]]:
        """Schema and name of the tables named."""
        return frozenset((t.table.schema, t.table.name) for t in self.named)


@dataclass(frozen=True)
class Check:
    """One check of a contract, as one Dagster asset check."""

    name: str
    type: str
    column: str | None
    body: Body
    line: int
    dimension: str
    blocking: bool
    whole_table: bool
    description: str
    columns: frozenset[str]
    sql: Mapping[str, SqlPart]
    value_is_plain: bool
    shown: frozenset[str]

    @property
    def threshold(self) -> Threshold:
        """What its value must be; a schema check counts differences, of which there must be none."""
        given: Threshold = getattr(self.body, "threshold", Threshold())
        if next(given.comparisons(), None) is not None:
            return given
        default = {"must_be_greater_than": 0} if self.type == "row_count" else {"must_be": 0}
        return given.model_copy(update=default)

    @property
    def warns(self) -> bool:
        """True when a failure is a warning."""
        return self.threshold.level == "warn"

    @property
    def expected(self) -> str:
        """What the value must be, in words."""
        counts = self.type in {"missing", "invalid", "duplicate", "failed_rows", "schema"}
        return "none" if counts and self.threshold.must_be == 0 else self.threshold.words()

    @property
    def measures(self) -> str:
        """What the value is, in words: ``missing values of seat, % of rows``."""
        body = self.body
        percent = getattr(self.threshold, "metric", "count") == "percent"
        match body:
            case Missing():
                words = f"missing values of {self.column}"
            case Invalid(valid_reference_data=reference) if reference is not None:
                words = f"values of {self.column} that are not in {reference.dataset} ({reference.column})"
            case Invalid():
                words = f"invalid values of {self.column}"
            case DuplicateRows():
                words = f"surplus rows with the same {', '.join(body.columns)}"
            case Freshness():
                words = f"{body.threshold.unit}s since the newest {body.column}"
            case FailedRows():
                words = "failing rows"
            case Schema():
                words = "differences from the declared columns"
            case Metric():
                words = self.name.replace("_", " ")
            case _ if self.type == "duplicate":
                words = f"surplus values of {self.column}"
            case _ if self.type == "aggregate":
                words = f"{getattr(body, 'function', '').replace('_', ' ')} of {self.column}"
            case _:
                words = "rows"
        return words + (", % of rows" if percent else "")


@dataclass(frozen=True)
class Contract:
    """The checks of one table."""

    path: Path
    file: str
    sha256: str
    target: DeclaredTable
    checks: tuple[Check, ...]

    @property
    def admits_no_rows(self) -> bool:
        """Whether every row_count check allows zero rows."""
        return all(c.threshold.admits(0) for c in self.checks if c.type == "row_count")
