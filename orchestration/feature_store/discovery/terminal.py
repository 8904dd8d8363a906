"""The catalog in a terminal.

What belongs here: tables of text. What does not: facts.
"""

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orchestration.feature_store.discovery import drawing
from orchestration.feature_store.discovery.facts import Facts, ViewFacts

_STYLES = {
    "passed": "green",
    "warned": "yellow",
    "failed": "red",
    "not evaluated": "red",
    "stale": "yellow",
    "overdue": "red",
}


def list_features(facts: Facts, words: Sequence[str]) -> Table:
    """Every feature that has all the words in its name, type or meaning, a row each."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("feature", no_wrap=True)
    table.add_column("entity")
    table.add_column("type")
    table.add_column("meaning", overflow="ellipsis", no_wrap=True)
    lowered = [word.lower() for word in words]
    for view in facts.views:
        for feature in view.features:
            text = f"{feature.reference} {feature.data_type} {feature.description} {view.description}".lower()
            if all(word in text for word in lowered):
                name = Text.assemble((f"{view.name}:", "dim"), feature.name)
                # As texts: a type or a description may hold what rich takes for markup.
                table.add_row(name, Text(view.key), Text(feature.data_type), Text(feature.description))
    return table


def show_view(view: ViewFacts, feature: str | None = None) -> RenderableType:
    """A view with its features, or with one of them."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("feature", "type", "nulls", "distribution", "values"):
        table.add_column(heading, justify="right" if heading == "nulls" else "left")
    shown = [one for one in view.features if feature in (None, one.name)]
    for one in shown:
        profile = one.profile
        cells = ("", "", "nothing stored yet") if profile is None else (
            drawing.share(profile.null_share), drawing.sparkline(profile), drawing.in_a_sentence(profile)
        )  # fmt: skip
        table.add_row(Text(one.name), Text(one.data_type), *map(Text, cells))
    meanings = [Text.assemble((f"{one.name}  ", "bold"), one.description) for one in shown]
    return Group(
        Text(view.name, "bold"),
        Text(view.description),
        Padding(_facts(view), (1, 0), expand=False),
        table,
        *([Text(), *meanings] if feature is not None else []),
        Text(),
        *_checks(view),
    )


def _facts(view: ViewFacts) -> Table:
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim")
    facts.add_column()
    state = view.freshness if view.freshness in _STYLES else ""
    checks = Text.assemble(
        *[
            (f"{count} {word}  ", _STYLES[word])
            for word, count in (
                ("passed", view.passed),
                ("warned", view.warned),
                ("failed", view.failed),
                ("not evaluated", view.not_evaluated),
            )
            if count
        ]
    )
    upstream = ", ".join(f"{p.layer}/{p.name}" for p in view.upstream)
    for name, told in (
        ("entity", Text(", ".join(f"{key.name} ({key.data_type})" for key in view.entity))),
        ("valid for", Text(view.ttl)),
        ("newest row", Text(f"{drawing.age(view.age_seconds)} {state}".strip(), _STYLES.get(state, ""))),
        ("rows", Text(f"{drawing.number(view.rows)}, of {drawing.number(view.entities)} entities")),
        ("checks", checks or Text("none yet")),
        ("online", Text("yes" if view.online else "no")),
        ("owner", Text(view.owner)),
        ("made from", Text(upstream)),
        ("used by", Text(", ".join(view.used_by) or "nothing declared yet")),
        ("schema", Text(view.schema_hash)),
        ("declared in", Text(view.declared_in)),
        ("asset", Text(view.url)),
    ):
        facts.add_row(name, told)
    return facts


def _checks(view: ViewFacts) -> list[Text]:
    """The checks that do not hold."""
    return [
        Text.assemble(
            (f"{check.outcome} ", _STYLES[check.outcome]),
            f"{check.name}: measured {drawing.number(check.measured)}",
        )
        for check in view.checks
        if not check.passed
    ]


def terminal() -> Console:
    """Where it is written: cut at the terminal's width, or long lines into a pipe."""
    console = Console(highlight=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=200)
