"""YAML with line numbers, read strictly.

What belongs here: from text to plain values, the line of every key and item, and the faults of the
text itself (syntax, a key written twice). What does not: what the keys mean.

Scalars follow YAML 1.2's core schema, as Soda reads them: ``NO`` is a text, not false.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[int | str, ...]

_NULL = re.compile(r"^(~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^[-+]?[0-9]+$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_SPECIAL = re.compile(r"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")


@dataclass
class Source:
    """A parsed YAML file: its value, and the line of every path inside it."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """The line of a path, or of the nearest thing around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if node.style:
        return text
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    if _SPECIAL.match(text):
        return float(text.lower().replace(".", "", 1))
    return text


def read_yaml(text: str, file: str, faults: list[str]) -> Source | None:
    """Parse one YAML document.

    Args:
        text: The document.
        file: Its name in fault messages.
        faults: Gets one line a fault.

    Returns:
        The source, or None when the text is no YAML.
    """
    source = Source()
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        problem = getattr(error, "problem", None) or str(error)
        faults.append(f"{file}:{line}: found {problem}, expected YAML")
        return None
    if root is None:
        faults.append(f"{file}:1: found an empty file, expected a contract")
        return None

    def walk(node: yaml.Node, path: Path) -> Any:
        source.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            result: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else str(key_node.value)
                line = key_node.start_mark.line + 1
                if key in result:
                    first = source.line((*path, key))
                    faults.append(
                        f"{file}:{line}: {key}: found the key a second time, "
                        f"expected it once (first on line {first})"
                    )
                    continue
                source.lines[(*path, key)] = line
                result[key] = walk(value_node, (*path, key))
            return result
        if isinstance(node, yaml.SequenceNode):
            return [walk(child, (*path, index)) for index, child in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return _scalar(node)

    source.value = walk(root, ())
    return source
