"""Tokens of SQL with Jinja, without comments and layout.

What belongs here: comparing two texts as code. What does not: running or formatting SQL.
"""

import re
from functools import lru_cache

_JINJA_TEXT = r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|.)*?"""
_JINJA = rf"\{{\{{{_JINJA_TEXT}\}}\}}|\{{%{_JINJA_TEXT}%\}}"
_JINJA_PARTS = re.compile(rf"({_JINJA})|\{{#.*?#\}}", re.DOTALL)
_TOKENS = re.compile(
    rf"""
    (?P<jinja>{_JINJA})
    |(?P<comment>--[^\n]*|/\*.*?\*/)
    |(?P<text>[eE]'(?:\\.|''|[^'\\])*'
        |'(?:{_JINJA}|''|[^'])*+'
        |"(?:{_JINJA}|""|[^"])*+"
        |\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    |(?P<space>\s+)
    |(?P<word>\w+)
    |(?P<other>.)
    """,
    re.DOTALL | re.VERBOSE,
)
_JINJA_TOKENS = re.compile(r"""^\{.[-+]?|[-+]?.\}$|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\w+|\S""")
_APART = {"(", ")", ",", ";"}


@lru_cache(maxsize=1024)
def sql_tokens(text: str) -> tuple[str, ...]:
    """The tokens of a text; a space counts only next to Jinja, whose output may join the tokens around it."""
    text = _JINJA_PARTS.sub(lambda found: found[1] or "", text)
    tokens: list[str] = []
    space = False
    for found in _TOKENS.finditer(text):
        kind, token = found.lastgroup, found[0]
        if kind == "tag":
            kind = "text"
        if kind == "comment" and "{{" not in token and "{%" not in token:  # Jinja runs inside comments too.
            kind = "space"
        if kind == "space":
            space = True
            continue
        if kind == "jinja":
            token = " ".join(_JINJA_TOKENS.findall(token))
        if space and tokens and _may_join(tokens[-1], token):
            tokens.append(" ")
        tokens.append(token)
        space = False
    return tuple(tokens)


def _may_join(one: str, other: str) -> bool:
    """Whether two tokens could become one without the space between them: Jinja can give any text."""
    return any(token.startswith(("{{", "{%")) for token in (one, other)) and not {one, other} & _APART
