"""Strict parsing: a declaration that cannot be used says in which file and key, found and expected."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class DeclarationError(ValueError):
    """Declarations that cannot be used; the message has one line a fault: file, key, found, expected."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("the dbt project's declarations have faults:\n  " + "\n  ".join(self.faults))


class Declared(BaseModel):
    """Base of all declarations: frozen, and an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _found(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys that a declaration knows at a place inside it."""
    current: type[BaseModel] = model
    for part in location:
        field = current.model_fields.get(str(part))
        if field is None:
            continue
        nested = [
            a
            for a in (field.annotation, *getattr(field.annotation, "__args__", ()))
            if isinstance(a, type) and issubclass(a, BaseModel)
        ]
        if nested:
            current = nested[0]
    return sorted(current.model_fields)


def describe_error(error: Any, model: type[BaseModel]) -> tuple[str, str]:
    """What was found and what was expected, in words, of one pydantic error."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        known = ", ".join(_keys_at(model, error["loc"][:-1]))
        return f"unknown key {str(error['loc'][-1])!r}", f"one of {known}"
    if kind == "missing":
        return "nothing", "a value"
    if kind == "value_error":
        message = str(context["error"])
        return _found(error["input"]), message.removeprefix("expected ")
    if "expected" in context:
        return _found(error["input"]), str(context["expected"])
    return _found(error["input"]), str(error["msg"])[:1].lower() + str(error["msg"])[1:]


def parse_strict(model: type[Model], value: object, file: str, key: str, faults: list[str]) -> Model | None:
    """``value`` as ``model``, or None after adding one line a fault to ``faults``."""
    try:
        return model.model_validate(value)
    except ValidationError as invalid:
        for error in invalid.errors():
            place = ".".join([key, *map(str, error["loc"])])
            found, expected = describe_error(error, model)
            faults.append(f"{file}: {place}: found {found}, expected {expected}")
    return None
