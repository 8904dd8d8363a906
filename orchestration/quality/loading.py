"""From the folder of contract files to checks, or to a list of everything that is wrong with them.

What belongs here: which files there must be, and how a file becomes a ``Contract``. What does not:
the rules of a single check (``reading``), the keys (``model``) and running anything.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestration.declarations import LAYERS, Declarations, Table
from orchestration.declarations.strict import describe_error
from orchestration.lakehouse import LAKE
from orchestration.quality.contract import Check, Contract
from orchestration.quality.declared_lake import DeclaredLake, DeclaredTable, declared_lake
from orchestration.quality.model import COLUMN_CHECKS, TABLE_CHECKS, Body, ContractFile, RowCount
from orchestration.quality.reading import Reader
from orchestration.quality.yaml_source import Path as Place
from orchestration.quality.yaml_source import Source, read_yaml


class ContractError(ValueError):
    """Contracts that cannot be used; the message has one line a fault: file:line, key, found, expected."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("the Soda contracts have faults:\n  " + "\n  ".join(self.faults))


@dataclass(frozen=True)
class Parsed:
    """A contract file whose keys are right."""

    path: Path
    file: str
    sha256: str
    table: Table
    source: Source
    content: ContractFile


def validate(
    model: type[BaseModel], value: object, source: Source, file: str, place: Place, faults: list[str]
) -> Any:
    """``value`` as ``model``, or None after adding one line a fault: file, line, key, found, expected."""
    try:
        return model.model_validate(value)
    except ValidationError as invalid:
        told: set[Place] = set()
        for error in invalid.errors():
            path: Place = place
            for part in error["loc"]:
                if (*path, part) in source.lines or error["type"] in {"missing", "extra_forbidden"}:
                    path = (*path, part)
            if path in told:
                continue
            told.add(path)
            found, expected = describe_error(error, model)
            if error["type"] in {"int_type", "float_type", "string_type"} and len(error["loc"]) > 1:
                options = [
                    e["type"].split("_")[0] for e in invalid.errors() if e["loc"][:-1] == error["loc"][:-1]
                ]
                words = {"int": "a number", "float": "a number", "string": "a text"}
                expected = " or ".join(dict.fromkeys(words[o] for o in options if o in words)) or expected
            key = ".".join(map(str, path))
            faults.append(f"{file}:{source.line(path)}: {key}: found {found}, expected {expected}")
    return None


def _parse(path: Path, file: str, table: Table, faults: list[str]) -> Parsed | None:
    raw = path.read_bytes()
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        faults.append(f"{file}:1: found bytes that are not UTF-8 at {error.start}, expected UTF-8 text")
        return None
    before = len(faults)
    source = read_yaml(text, file, faults)
    if source is None or len(faults) > before:
        return None
    content = validate(ContractFile, source.value, source, file, (), faults)
    if content is None:
        return None
    dataset = "/".join((LAKE, table.schema, table.name))
    if content.dataset != dataset:
        faults.append(
            f"{file}:{source.line(('dataset',))}: dataset: found {content.dataset!r}, expected {dataset!r}"
        )
    return Parsed(path, file, hashlib.sha256(raw).hexdigest(), table, source, content)


def _bodies(parsed: Parsed, faults: list[str]) -> list[tuple[str, str | None, Body, Place]]:
    """Every check of the file: type, column, keys, place."""
    listed: list[tuple[Mapping[str, Any], str | None, Place]] = []
    for number, column in enumerate(parsed.content.columns):
        for index, entry in enumerate(column.checks):
            listed.append((entry, column.name, ("columns", number, "checks", index)))
    for index, entry in enumerate(parsed.content.checks):
        listed.append((entry, None, ("checks", index)))
    found = []
    for checks, column_name, place in listed:
        entry = dict(checks)
        line = parsed.source.line(place)
        known = COLUMN_CHECKS if column_name is not None else TABLE_CHECKS
        key = ".".join(map(str, place))
        if len(entry) != 1:
            faults.append(
                f"{parsed.file}:{line}: {key}: found {len(entry)} keys ({', '.join(map(str, entry))}), "
                "expected one, the check's type"
            )
            continue
        kind, keys = next(iter(entry.items()))
        if kind not in known:
            where = "on a column" if column_name is not None else "on a table"
            faults.append(
                f"{parsed.file}:{line}: {key}: found unknown check type {kind!r}, "
                f"expected {where} one of {', '.join(known)}"
            )
            continue
        inner = (*place, kind)
        body = validate(known[kind], {} if keys is None else keys, parsed.source, parsed.file, inner, faults)
        if body is not None:
            found.append((kind, column_name, body, inner))
    return found


def _duplicates(parsed: Parsed, checks: list[Check], faults: list[str]) -> None:
    """Each check needs a name of its own: Dagster knows a check by it, and so does its history."""
    names: dict[str, Check] = {}
    for check in checks:
        twin = names.setdefault(check.name, check)
        if twin is not check:
            faults.append(
                f"{parsed.file}:{check.line}: {check.type}: found the name {check.name!r} a second time, "
                f"expected a name or qualifier of its own (the first stands on line {twin.line})"
            )


def _contract(parsed: Parsed, lake: DeclaredLake, target: DeclaredTable, faults: list[str]) -> Contract:
    seen: dict[str, int] = {}
    for number, column in enumerate(parsed.content.columns):
        line = parsed.source.line(("columns", number, "name"))
        if column.name in seen:
            faults.append(
                f"{parsed.file}:{line}: columns.{number}.name: found {column.name!r} a second time, "
                f"expected each column once (first on line {seen[column.name]})"
            )
        seen.setdefault(column.name, line)
        if column.name not in target.types:
            faults.append(
                f"{parsed.file}:{line}: columns.{number}.name: found unknown column {column.name!r}, "
                f"expected one of {', '.join(target.types)}"
            )
    reader = Reader(parsed.file, parsed.source, target, lake, faults)
    checks = [
        check
        for kind, column_name, body, place in _bodies(parsed, faults)
        if column_name is None or column_name in target.types
        if (check := reader.check(kind, column_name, body, place)) is not None
    ]
    _duplicates(parsed, checks, faults)
    if not any(isinstance(c.body, RowCount) and not c.whole_table and not c.sql for c in checks):
        faults.append(
            f"{parsed.file}:{parsed.source.line(('checks',))}: checks: found no row_count check of the run's "
            "window without a filter, expected one: without it an empty table passes"
        )
    return Contract(parsed.path, parsed.file, parsed.sha256, target, tuple(checks))


def load_contracts(declarations: Declarations, folder: Path) -> tuple[Contract, ...]:
    """Read every contract.

    Args:
        declarations: The dbt project's declarations; they say which tables there are.
        folder: ``soda_checks``, with one folder a layer.

    Returns:
        One contract a declared table, in layer and name order.

    Raises:
        ContractError: At least one contract is missing, surplus or wrong; all faults are listed.
    """
    faults: list[str] = []
    parsed: list[Parsed] = []
    tables = [table for layer in LAYERS for table in declarations.layer(layer)]
    expected = {folder / t.layer / f"{t.name}.yml": t for t in tables}
    for path, table in expected.items():
        file = f"{folder.name}/{path.relative_to(folder)}"
        if not path.is_file():
            faults.append(f"{file}:1: found no file, expected the contract of {table.layer}/{table.name}")
        elif (found := _parse(path, file, table, faults)) is not None:
            parsed.append(found)
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        if path not in expected and path.suffix in {".yml", ".yaml"}:
            file = f"{folder.name}/{path.relative_to(folder)}"
            faults.append(f"{file}:1: found a contract, but no declared table {path.parent.name}/{path.stem}")
    windows = {
        p.table.unique_id: p.content.check_attributes.window_column
        for p in parsed
        if p.content.check_attributes.window_column is not None
    }
    contracts = []
    with declared_lake(declarations, tables, windows, faults) as lake:
        for one in parsed:
            target = lake.tables.get((one.table.schema, one.table.name))
            if target is not None:
                contracts.append(_contract(one, lake, target, faults))
    if faults:
        raise ContractError(faults)
    return tuple(contracts)
