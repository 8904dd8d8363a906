"""How a list becomes one value: a count, one bit an element that says it is null, then the elements.

Elements of fixed size follow one another. Of texts, blobs and lists the ends come first, each counted from
where the first begins, then their bytes. Numbers are little-endian. DuckDB's arrays are lists here.
"""

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestration.feature_store.online.encoding import Kind

COUNT = struct.Struct("<I")


def list_decoder(element: "Kind") -> Callable[[bytes], list[Any]]:
    """A function from the bytes of a list to its elements; a null element is None."""
    code, convert = element.code, element.convert

    def decode(part: bytes) -> list[Any]:
        (count,) = COUNT.unpack_from(part)
        start = COUNT.size + (count + 7) // 8
        nulls = int.from_bytes(part[COUNT.size : start], "little")
        found: Sequence[Any]
        if element.is_variable:
            ends = struct.unpack_from(f"<{count}I", part, start)
            start += COUNT.size * count
            found = [part[start + a : start + b] for a, b in zip((0, *ends), ends, strict=False)]
        else:
            found = struct.unpack_from(
                "<" + (code * count if len(code) > 1 else f"{count}{code}"), part, start
            )
        if not nulls:
            return list(found) if convert is None else list(map(convert, found))
        return [
            None if nulls >> n & 1 else value if convert is None else convert(value)
            for n, value in enumerate(found)
        ]

    return decode
