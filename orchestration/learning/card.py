"""Model cards: what a version is and how good, for people (Markdown) and programs (JSON).

What belongs here: words and tables made from a manifest. What does not: any number that it does not hold.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestration.learning.events import Event

_METRICS = {
    "auc": "area under the ROC curve",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "calibration error",
    "precision": "precision at the threshold",
    "recall": "recall at the threshold",
}
_TOLD = (
    "model", "description", "owner", "dataset", "label", "features", "split", "algorithm", "calibration",
    "operating_point", "metrics", "slices", "importance", "code", "packages", "schema_hash", "views",
)  # fmt: skip
_SHOWN = 15
"""Of so many features and slice values the card tells."""


def card_json(version: str, manifest: Mapping[str, Any], events: Sequence[Event]) -> dict[str, Any]:
    """What the card tells, as plain values."""
    return {
        "version": version,
        **{name: manifest[name] for name in _TOLD},
        "history": [
            {
                "what": e.kind,
                "at": e.happened_at.isoformat(),
                "by": e.actor,
                "run": e.run_id,
                "why": e.reason,
                "instead_of": e.before,
            }
            for e in events
            if e.version == version
        ],
    }


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(heading)} |",
        "|:--" + "|--:" * (len(heading) - 1) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def _estimate(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    if found["low"] is None:
        return f"{found['value']:.4f}"
    return f"{found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f})"


def _window(part: Mapping[str, Any]) -> str:
    start = (part["start"] or "the beginning")[:16].replace("T", " ")
    return f"{start} to {part['end'][:16].replace('T', ' ')}"


def card_markdown(version: str, manifest: Mapping[str, Any], events: Sequence[Event]) -> str:
    """The card: what it predicts, from what, how well, where less well, and what became of it."""
    card = card_json(version, manifest, events)
    algorithm, dataset, code = card["algorithm"], card["dataset"], card["code"]
    lines = [
        f"# {card['model']} {version}",
        "",
        card["description"],
        "",
        f"Owner: {card['owner']}. Predicts `{card['label']}` by {algorithm['name']} with "
        f"{card['calibration']} calibration, seed {algorithm['seed']}; a score of "
        f"{card['operating_point']['threshold']:.4f} or more is decided as true.",
        "",
        "## Trained on",
        "",
        f"Version `{dataset['version']}` of {dataset['training_set']}, labels known until "
        f"{dataset['labels_until'][:16].replace('T', ' ')} UTC; code {code['commit'] or 'of no commit'}"
        f"{' with changes' if code['dirty'] else ''}.",
        "",
        *_table(
            ("part", "predictions asked for (UTC)", "rows", "positive", "days"),
            (
                (
                    name,
                    _window(card["split"][name]),
                    f"{card['split'][name]['rows']:,}",
                    f"{card['split'][name]['positives'] / card['split'][name]['rows']:.1%}",
                    str(card["split"][name]["days"]),
                )
                for name in ("train", "validation", "evaluation")
            ),
        ),
        "## How good it is",
        "",
        "With 95% confidence intervals, days being drawn as a whole.",
        "",
        *_table(
            ("metric", "evaluation", "validation"),
            (
                (
                    words,
                    _estimate(card["metrics"]["evaluation"].get(name)),
                    _estimate(card["metrics"]["validation"].get(name)),
                )
                for name, words in _METRICS.items()
            ),
        ),
    ]
    for column, values in card["slices"].items():
        lines += [
            f"### By {column}",
            "",
            *_table(
                (column, "rows", "positive", "mean score", "area", "log loss"),
                (
                    (
                        value,
                        f"{found['rows']:,}",
                        f"{found['positives'] / found['rows']:.1%}",
                        f"{found['mean_score']:.1%}",
                        _estimate(found["metrics"].get("auc")),
                        _estimate(found["metrics"].get("log_loss")),
                    )
                    for value, found in sorted(values.items(), key=lambda pair: -pair[1]["rows"])[:_SHOWN]
                ),
            ),
        ]
    described = {feature["name"]: feature for feature in card["features"]}
    lines += [
        "## What it goes by",
        "",
        f"{len(described)} features; the most important ones by their share of the gain:",
        "",
        *_table(
            ("feature", "share", "type", "meaning"),
            (
                (name, f"{share:.1%}", described[name]["data_type"], described[name]["description"])
                for name, share in card["importance"][:_SHOWN]
            ),
        ),
        "Parameters: "
        + (", ".join(f"{k} {v}" for k, v in sorted(algorithm["parameters"].items())) or "the defaults")
        + ". Packages: "
        + ", ".join(f"{name} {number}" for name, number in card["packages"].items())
        + ".",
        "",
        "## What became of it",
        "",
    ]
    for event in card["history"]:
        instead = f" instead of {event['instead_of']}" if event["instead_of"] else ""
        lines.append(
            f"- {event['what'].replace('_', ' ')}{instead} at {event['at'][:16].replace('T', ' ')} UTC by "
            f"{event['by']}: {event['why']}"
        )
    if not card["history"]:
        lines.append("It is not registered.")
    return "\n".join(lines) + "\n"
