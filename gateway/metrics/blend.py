"""The numbers of several processes as one: counters and histograms add up, gauges blend as declared, nothing falls."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

import msgspec

from gateway.metrics.declared import Blend, Kind, Metric
from gateway.metrics.series import FOLDED, OTHER, Labels, Registry, partners_in

Numbers: TypeAlias = dict[str, dict[Labels, Any]]  # name -> label values -> cell, of all three kinds
CHUNK = 1_000  # series a frame: encoding that many holds the interpreter for about 0.2 ms
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(tuple[str, list[tuple[tuple[str, ...], Any]]])


def pack(registry: Registry) -> Iterator[bytes]:
    """The registry in frames, small enough that a busy event loop gets its turn in between."""
    for families in (registry.counters, registry.gauges, registry.histograms):
        for name, cells in families.items():
            series = iter(cells.copy().items())  # one step of the interpreter: the loop may go on adding meanwhile
            while chunk := list(islice(series, CHUNK)):
                yield _encode((name, chunk))


def unpack_into(numbers: Numbers, frame: bytes) -> None:
    """Add one frame's series. Raises msgspec.MsgspecError for what is not a frame."""
    name, chunk = _decoder.decode(frame)
    numbers.setdefault(name, {}).update(chunk)


def numbers_of(registry: Registry) -> Numbers:
    return {**registry.counters, **registry.gauges, **registry.histograms}


class Tally:
    """What all processes have counted, those included that are gone.

    A series that was once shown stays shown: which of them are above the limit is decided once, in order of arrival.
    """

    def __init__(self, declared: Mapping[str, Metric]) -> None:
        self._declared = declared
        self._gone = Registry(declared)
        self._shown: dict[str, set[Labels]] = {name: set() for name in declared}
        self._partners = 0

    def depart(self, numbers: Numbers) -> None:
        """A process has ended: what it counted stays, what it measured of itself goes."""
        lasting = {
            name: cells
            for name, cells in numbers.items()
            if (metric := self._declared.get(name)) and (metric.kind is not Kind.GAUGE or metric.blend is Blend.LATEST)
        }
        self._add(lasting, to=self._gone)

    def page(self, present: Iterable[Numbers]) -> Registry:
        """The sum of the present processes and the departed ones."""
        total, everybody = Registry(self._declared), (numbers_of(self._gone), *present)
        self._partners = max(map(partners_in, everybody))
        for numbers in everybody:
            self._add(numbers, to=total)
        return total

    def _add(self, numbers: Numbers, *, to: Registry) -> None:
        for name, cells in numbers.items():
            metric = self._declared.get(name)
            if metric is None:  # a process of another version, during an upgrade: its new metric waits for a new hub
                continue
            target: dict[Labels, Any] = _family(to, metric)
            add = _ADD[metric.kind, metric.blend]
            for key, cell in cells.items():
                shown = self._shown_as(metric, key)
                before = target.get(shown)
                target[shown] = add(before, cell) if before is not None else _own(cell)

    def _shown_as(self, metric: Metric, key: Labels) -> Labels:
        shown = self._shown[metric.name]
        if key in shown:
            return key
        if len(shown) < metric.limit(self._partners):
            shown.add(key)
            return key
        self._gone.count(FOLDED, metric=metric.name)
        return (OTHER,) * len(key)


def _own(cell: Any) -> Any:
    """A cell that the next addition may change: the sender's stays as it is."""
    return list(cell) if isinstance(cell, list) else cell


def _family(registry: Registry, metric: Metric) -> dict[Labels, Any]:
    families: dict[Kind, Any] = {
        Kind.COUNTER: registry.counters,
        Kind.GAUGE: registry.gauges,
        Kind.HISTOGRAM: registry.histograms,
    }
    cells: dict[Labels, Any] = families[metric.kind][metric.name]
    return cells


def _sum(left: float, right: float) -> float:
    return left + right


def _sum_buckets(left: list[float], right: list[float]) -> list[float]:
    return [a + b for a, b in zip(left, right, strict=True)]


_GAUGES: dict[Blend, Callable[[Any, Any], Any]] = {
    Blend.LOWEST: min,  # gauges' cells are [value, when written]
    Blend.HIGHEST: max,
    Blend.LATEST: lambda left, right: max(left, right, key=lambda cell: cell[1]),
}
_ADD: dict[tuple[Kind, Blend], Callable[[Any, Any], Any]] = {
    (kind, blend): add
    for blend in Blend
    for kind, add in ((Kind.COUNTER, _sum), (Kind.HISTOGRAM, _sum_buckets), (Kind.GAUGE, _GAUGES[blend]))
}
