"""Numbers and distributions as people read them.

What belongs here: short texts and small inline SVG. What does not: the page around them.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape

from orchestration.declarations import in_words
from orchestration.feature_store.discovery.profiles import Bar, FeatureProfile

WIDTH, HEIGHT = 144, 32
NOTHING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_GAP = 1.0
_TOP_NAMED = 3
_BLOCKS = " ▁▂▃▄▅▆▇█"


def number(value: float | int | None) -> str:
    """A number with four digits that matter: ``12,060``, ``-58.43``, ``0.0042``, ``3.6 million``."""
    if value is None:
        return NOTHING
    size = abs(value)
    if size >= 1e6:
        for name, unit in (("trillion", 1e12), ("billion", 1e9), ("million", 1e6)):
            if size >= unit:
                return f"{value / unit:,.3g} {name}" if size < 1e15 else f"{value:.3g}"
    if float(value).is_integer() or size >= 1_000:
        return f"{value:{',' if size >= 10_000 else ''}.0f}".replace("-", _MINUS)
    digits = 4 if size < 0.1 else 3 if size < 1 else 2
    return f"{value:.{digits}f}".rstrip("0").rstrip(".").replace("-", _MINUS)


def instant(seconds: float | None) -> str:
    """An instant as its day in UTC."""
    if seconds is None:
        return NOTHING
    try:
        return (
            (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%d %b %Y").lstrip("0")
        )
    except OverflowError:
        return "beyond 9999"


def share(part: float) -> str:
    """A share in percent; what is there is never shown as 0 %, what lacks never as 100 %."""
    if part in (0, 1):
        return f"{part:.0%}"
    if part < 0.001:
        return "< 0.1%"
    if part > 0.999:
        return "> 99.9%"
    return f"{part:.1%}" if part < 0.1 or part > 0.9 else f"{part:.0%}"


def age(seconds: float | None) -> str:
    """How long ago, in words."""
    if seconds is None:
        return "never"
    if seconds < 1:
        return "now"
    return f"{in_words(timedelta(seconds=int(seconds)))} old"


def value(profile: FeatureProfile, held: float | None) -> str:
    """A value of a feature that is a number or an instant."""
    return instant(held) if profile.shape == "instants" else number(held)


def in_a_sentence(profile: FeatureProfile) -> str:
    """What a distribution shows, in words."""
    if profile.shape == "hidden":
        return "classified"
    if profile.null_share == 1:
        return "no values"
    if profile.shape in ("numbers", "instants"):
        low, median, high = (value(profile, v) for v in (profile.low, profile.median, profile.high))
        return f"{low} to {high}, median {median}"
    if not profile.bars:
        return "no values" if profile.distinct is None else f"about {profile.distinct:,} distinct values"
    named = ", ".join(f"{bar.label} {share(bar.share)}" for bar in profile.bars[:_TOP_NAMED])
    more = (profile.distinct or 0) > _TOP_NAMED
    return f"{named}; {profile.distinct} distinct values" if more else named


def histogram(profile: FeatureProfile) -> str:
    """The distribution as inline SVG with a text for those who do not see it; empty without one."""
    if not profile.bars:
        return ""
    told = escape(in_a_sentence(profile), quote=True)
    draw = _bars if profile.shape in ("numbers", "instants") else _shares
    return (
        f'<svg class="hist" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="Distribution: {told}">{draw(profile.bars)}</svg>'
    )


def _bars(bars: Sequence[Bar]) -> str:
    top = max(bar.share for bar in bars) or 1.0
    step = WIDTH / len(bars)
    width = min(step - _GAP, 14.0)
    drawn = []
    for place, bar in enumerate(bars):
        if bar.share <= 0:
            continue
        height = max(bar.share / top * (HEIGHT - 2), 1.0)
        x = place * step + (step - width) / 2
        drawn.append(
            f'<rect x="{x:.1f}" y="{HEIGHT - 1 - height:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        )
    return f'<path class="base" d="M0 {HEIGHT - 0.5}H{WIDTH}"/>' + "".join(drawn)


def _shares(bars: Sequence[Bar]) -> str:
    """One bar, parted: the first part the strongest."""
    drawn, x = [], 0.0
    for place, bar in enumerate(bars):
        width = bar.share * WIDTH
        if width >= _GAP:
            strength = max(1 - place * 0.16, 0.18)
            drawn.append(
                f'<rect x="{x:.1f}" y="10" width="{max(width - _GAP, 0.5):.1f}" height="12" '
                f'opacity="{strength:.2f}"><title>{escape(bar.label)} {share(bar.share)}</title></rect>'
            )
        x += width
    return "".join(drawn)


def sparkline(profile: FeatureProfile) -> str:
    """The bars as a line of blocks; none for what has no order."""
    if profile.shape not in ("numbers", "instants") or not profile.bars:
        return ""
    top = max(bar.share for bar in profile.bars) or 1.0
    return "".join(_BLOCKS[min(8, -(-int(bar.share / top * 800) // 100))] for bar in profile.bars)
