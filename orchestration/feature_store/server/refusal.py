"""A request that is refused: with which status, and in which words.

What belongs here: the one exception that becomes a 4xx answer. What does not: finding the fault.
"""

from collections.abc import Sequence

Header = tuple[bytes, bytes]


class Refusal(Exception):
    """A request that is not served; the message names what was found and expected, and no value of it.

    Args:
        status: The HTTP status, 4xx or 503.
        message: For the caller.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Sequence[Header] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = tuple(headers)
