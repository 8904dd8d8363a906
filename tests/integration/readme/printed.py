"""The samples that README prints, as a reader would copy them."""

import re
import textwrap
from collections.abc import Sequence

from orchestration.settings import PROJECT_DIR

_FENCED = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


def samples(heading: str, language: str) -> Sequence[str]:
    """The fenced blocks of a language under a heading, up to the next one, in order."""
    readme = (PROJECT_DIR / "README.md").read_text(encoding="utf-8")
    section = re.split(rf"^#+ {heading}$", readme, flags=re.MULTILINE)[1]
    section = re.split(r"^##+ ", section, flags=re.MULTILINE)[0]
    return [
        textwrap.dedent(block["text"]) for block in _FENCED.finditer(section) if block["language"] == language
    ]
