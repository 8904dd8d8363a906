"""Rows for point-in-time joins, made up by Hypothesis: crowded, so that ties and edges are common."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

# An hour before New York's clocks go back, and before they go forward.
_CHANGES = (datetime(2013, 11, 3, 5, tzinfo=UTC), datetime(2013, 3, 10, 6, tzinfo=UTC))
TTLS = (timedelta(seconds=1), timedelta(hours=1), timedelta(days=1), timedelta(weeks=1000))

instants = st.builds(
    lambda change, step, micros: change + step * timedelta(minutes=30) + timedelta(microseconds=micros),
    st.sampled_from(_CHANGES),
    st.integers(-2, 50),
    st.sampled_from((0, 0, 0, -1, 1, -1_000_000, 1_000_000, 999_999)),
)
pumps = st.sampled_from(("alder", "birch", "Birch", "", None))
sites = st.sampled_from((1, 2, None))

composite_rows = st.fixed_dictionaries(
    {
        "pump": pumps,
        "site": sites,
        "known_at": st.none() | instants,
        "level": st.sampled_from((None, 0, 1, 2)),
        "note": st.sampled_from((None, "", "a", "b")),
    }
)
single_rows = st.fixed_dictionaries(
    {"pump": pumps, "known_at": instants, "share": st.sampled_from((None, -0.5, 0.25, 1.0))}
)
spine_rows = st.fixed_dictionaries(
    {"id": st.integers(0, 3), "pump": pumps, "twin": pumps, "site": sites, "asked_at": instants}
)


@st.composite
def histories(draw: st.DrawFn) -> dict[str, Any]:
    """Rows of two views and of a spine, some of them at the very edges of the others' time."""
    ttl = draw(st.sampled_from(TTLS))
    composite = draw(st.lists(composite_rows, max_size=12))
    single = draw(st.lists(single_rows, max_size=12))
    spine = draw(st.lists(spine_rows, max_size=10))
    for row in list(spine):
        stamps = [r["known_at"] for r in (*composite, *single) if r["known_at"] is not None]
        if stamps and draw(st.booleans()):
            edge = draw(st.sampled_from(stamps))
            late = draw(st.sampled_from((timedelta(0), ttl if ttl.days < 1000 else timedelta(0))))
            spine.append({**row, "asked_at": edge + late})
            spine.append(
                {**row, "asked_at": edge + late + timedelta(microseconds=draw(st.sampled_from((-1, 1))))}
            )
    if spine and draw(st.booleans()):
        spine.append(dict(draw(st.sampled_from(spine))))
    return {"ttl": ttl, "composite": composite, "single": single, "spine": spine}
