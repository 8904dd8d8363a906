"""What the server counts, and how Prometheus reads it.

What belongs here: names, labels, buckets, the text format. What does not: how numbers are shared.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from zlib import crc32

from orchestration.feature_store.online.reading import Status
from orchestration.feature_store.server.counters import Counters

STATUSES = (200, 304, 400, 401, 403, 404, 405, 413, 415, 421, 422, 429, 500, 503)
_VALUE_STATUSES = tuple(Status)
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds of a request's seconds; whatever took longer is in one more."""
RATES = 4_096
"""Places in which the requests of a second are counted by caller."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUNDS = tuple(int(bound * 1e9) for bound in BUCKETS)
_HELP = {
    "groundwork_server_requests_total": "Requests answered, by route and HTTP status.",
    "groundwork_server_entity_rows_total": "Entity rows asked for.",
    "groundwork_server_values_total": "Values given, by feature view and status.",
    "groundwork_server_pushed_rows_total": "Rows taken, by source.",
}
_SECONDS = "groundwork_server_request_seconds"


def _request(route: str, status: int) -> str:
    return f'groundwork_server_requests_total{{route="{route}",status="{status}"}}'


def _bucket(route: str, number: int) -> str:
    return f"{_SECONDS}:{route}:{number}"


def _nanoseconds(route: str) -> str:
    return f"{_SECONDS}:{route}:sum"


def _value(view: str, status: Status) -> str:
    return f'groundwork_server_values_total{{view="{view}",status="{status.value}"}}'


def _pushed(source: str) -> str:
    return f'groundwork_server_pushed_rows_total{{source="{source}"}}'


_ROWS = "groundwork_server_entity_rows_total"


class Metrics:
    """Everything one server counts.

    Args:
        path: The file of shared counters.
        workers: Processes that share it.
        routes: Names of all routes.
        views: Names of everything whose values are counted.
        sources: Names of the sources that take pushes.
    """

    def __init__(
        self,
        path: Path,
        workers: int,
        routes: Sequence[str],
        views: Sequence[str],
        sources: Sequence[str],
    ) -> None:
        self._routes = routes
        names = [_request(route, status) for route in routes for status in STATUSES]
        for route in routes:
            names += [_bucket(route, n) for n in range(len(BUCKETS) + 1)]
            names.append(_nanoseconds(route))
        names.append(_ROWS)
        names += [_value(view, status) for view in views for status in Status]
        names += [_pushed(source) for source in sources]
        # A restarted worker takes a row before the one it follows has ended.
        self._counters = counters = Counters(path, names, 2 * workers, RATES)
        index, self._mine = counters.index, counters.mine
        self._request = {(r, s): index[_request(r, s)] for r in routes for s in STATUSES}
        self._seconds = {r: index[_bucket(r, 0)] for r in routes}
        self._rows = index[_ROWS]
        self._values = {(view, s): index[_value(view, s)] for view in views for s in Status}
        self._pushed = {source: index[_pushed(source)] for source in sources}
        self._rates = len(names)

    def request(self, route: str, status: int, nanoseconds: int) -> None:
        """Count an answered request."""
        mine = self._mine
        mine[self._request[route, status]] += 1
        first = self._seconds[route]
        mine[first + bisect_left(_BOUNDS, nanoseconds)] += 1
        mine[first + len(_BOUNDS) + 1] += nanoseconds

    def rows(self, count: int) -> None:
        """Count entity rows."""
        self._mine[self._rows] += count

    def values(self, view: str, statuses: Sequence[Status], columns: int) -> None:
        """Count values of a view: so many columns, each with these statuses."""
        mine, rest = self._mine, len(statuses)
        for status in _VALUE_STATUSES if rest > 1 else statuses:
            found = statuses.count(status)
            if found:
                mine[self._values[view, status]] += found * columns
                rest -= found
                if not rest:
                    return

    def pushed(self, source: str, rows: int) -> None:
        """Count pushed rows."""
        self._mine[self._pushed[source]] += rows

    def in_this_second(self, caller: str, second: int) -> int:
        """Count a request of a caller; gives how many there were in this second, in all processes.

        Callers come and go while the server runs, so their names give the place. Of 4,096 pairs of names
        one shares its place, and so its limit.
        """
        cell = self._rates + crc32(caller.encode()) % RATES
        held = self._mine[cell]
        self._mine[cell] = held + 1 if held >> 32 == second else second << 32 | 1
        return sum(count & 0xFFFFFFFF for count in self._counters.cells(cell) if count >> 32 == second)

    def close(self) -> None:
        """Give the shared counters up."""
        self._counters.close()

    def text(self) -> str:
        """All numbers in Prometheus's text format."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        totals = self._counters.totals()
        for family, meaning in _HELP.items():
            yield from _head(family, meaning, "counter")
            for name, total in totals.items():
                if name.split("{")[0] == family and (total or "{" not in name):
                    yield f"{name} {total}"
        yield from _head(_SECONDS, "Time from a request to its answer, by route.", "histogram")
        for route in self._routes:
            counts = [totals[_bucket(route, n)] for n in range(len(BUCKETS) + 1)]
            if any(counts):
                yield from _histogram(route, counts, totals[_nanoseconds(route)] / 1e9)


def _head(family: str, meaning: str, kind: str) -> Iterable[str]:
    return (f"# HELP {family} {meaning}", f"# TYPE {family} {kind}")


def _histogram(route: str, counts: Sequence[int], seconds: float) -> Iterator[str]:
    so_far = 0
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
        so_far += count
        yield f'{_SECONDS}_bucket{{route="{route}",le="{bound}"}} {so_far}'
    yield f'{_SECONDS}_sum{{route="{route}"}} {seconds:.9f}'
    yield f'{_SECONDS}_count{{route="{route}"}} {so_far}'
