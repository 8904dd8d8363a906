"""The catalog as one HTML page that needs nothing else: no build step, no other file, no other host.

What belongs here: filling the template. What does not: facts, and HTTP.
"""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from orchestration.feature_store.discovery import drawing
from orchestration.feature_store.discovery.facts import Facts

_FOLDER = Path(__file__).parent


def _breakable(name: str) -> Markup:
    """A name that may be broken after its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": drawing.number,
        "share": drawing.share,
        "age": drawing.age,
        "breakable": _breakable,
        "sentence": drawing.in_a_sentence,
    }
    environment.globals["histogram"] = drawing.histogram
    return environment.get_template("page.html")


@cache
def content_security_policy() -> str:
    """What the page may do: run its own script and style, and nothing else."""
    text = (_FOLDER / "page.html").read_text(encoding="utf-8")

    def sources(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in found)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {sources('script')}; style-src {sources('style')}; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def render(facts: Facts) -> str:
    """The page."""
    users = sorted({name for view in facts.views for name in view.used_by})
    owners = sorted({view.owner for view in facts.views})
    entities = sorted({view.key for view in facts.views})
    return _template().render(facts=facts, users=users, owners=owners, entities=entities)
