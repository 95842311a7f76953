"""The numbers of one process: plain dictionaries, as an increment is on every request's way."""

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from gateway.metrics.declared import METRICS, PARTNERS, Kind, Metric

Labels: TypeAlias = tuple[str, ...]
C = TypeVar("C")
OTHER = "other"  # the label value that takes what is above the limit
LABEL_LIMIT = 200  # bytes
FOLDED = "parasol_metrics_folded_total"


class MetricMisused(Exception):
    """A metric that is not declared, of another kind, or with other labels: a bug in the calling code."""


class Registry:
    """Counters, gauges and histograms by label values. Written by the process's event loop, read by any thread.

    A histogram's cell is its count per bucket, then the sum; a gauge's is its value and when it was written.
    """

    def __init__(self, declared: Mapping[str, Metric] = METRICS) -> None:
        self.declared = declared
        self.counters: dict[str, dict[Labels, float]] = _cells(declared, Kind.COUNTER)
        self.gauges: dict[str, dict[Labels, list[float]]] = _cells(declared, Kind.GAUGE)
        self.histograms: dict[str, dict[Labels, list[float]]] = _cells(declared, Kind.HISTOGRAM)
        self._counting = {name: (declared[name].labels, cells) for name, cells in self.counters.items()}
        self._observing = {
            name: (declared[name].labels, cells, declared[name].buckets) for name, cells in self.histograms.items()
        }
        self._probes: dict[str, Callable[[], float]] = {}

    def count(self, name: str, /, amount: float = 1, **labels: str) -> None:
        """Add to a counter. `name` is declared, the labels are exactly the declared ones."""
        try:
            wanted, cells = self._counting[name]
            key = tuple(labels.values())
            if tuple(labels) != wanted:
                key = self._ordered(name, labels)
            cells[key] += amount
        except KeyError:
            key, cells = self._ordered(name, labels), _of_kind(self.counters, name)
            key = self._admitted(name, key, cells)
            cells[key] = cells.get(key, 0) + amount

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Put a value into a histogram."""
        try:
            wanted, cells, bounds = self._observing[name]
            key = tuple(labels.values())
            if tuple(labels) != wanted:
                key = self._ordered(name, labels)
            cell = cells[key]
        except KeyError:
            key, cells = self._ordered(name, labels), _of_kind(self.histograms, name)
            bounds = self.declared[name].buckets
            cell = cells.setdefault(self._admitted(name, key, cells), [0.0] * (len(bounds) + 2))
        cell[bisect_left(bounds, value)] += 1
        cell[-1] += value

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        key, cells = self._ordered(name, labels), _of_kind(self.gauges, name)
        if key not in cells:
            key = self._admitted(name, key, cells)
        cells[key] = [value, time.time()]

    def probe(self, name: str, read: Callable[[], float]) -> None:
        """A gauge without labels whose value is asked for at each scrape. `read` runs in another thread: quick."""
        if name not in self.gauges or self.declared[name].labels:
            raise MetricMisused(f"{name} is not a gauge without labels")
        self._probes[name] = read

    def read_probes(self) -> None:
        for name, read in self._probes.copy().items():
            self.gauge(name, read())

    def _ordered(self, name: str, labels: Mapping[str, str]) -> Labels:
        metric = self.declared.get(name)
        if metric is None:
            raise MetricMisused(f"{name} is not in the table of metrics")
        if set(metric.labels) != labels.keys():
            raise MetricMisused(f"{name} is declared with the labels {metric.labels}, not {tuple(labels)}")
        return tuple(labels[label] for label in metric.labels)

    def _admitted(self, name: str, key: Labels, cells: Mapping[Labels, object]) -> Labels:
        """The key, while there is room for a new series, and if a page can hold it; else the one for all the rest."""
        if len(cells) < self.declared[name].limit(partners_in(self.gauges)) and all(map(_writable, key)):
            return key
        self.count(FOLDED, metric=name)
        return (OTHER,) * len(key)


def _writable(label: str) -> bool:
    """One that cannot be encoded (a lone surrogate) would take the whole page with it; no label of ours is long."""
    try:
        return len(label.encode()) <= LABEL_LIMIT
    except UnicodeEncodeError:
        return False


def partners_in(gauges: Mapping[str, Mapping[Labels, Sequence[float]]]) -> int:
    """What a process says how many partners there are; 0 until it knows."""
    cell = gauges.get(PARTNERS, {}).get(())
    return int(cell[0]) if cell is not None else 0


def _cells(declared: Mapping[str, Metric], kind: Kind) -> dict[str, dict[Labels, Any]]:
    return {name: {} for name, metric in declared.items() if metric.kind is kind}


def _of_kind(families: Mapping[str, dict[Labels, C]], name: str) -> dict[Labels, C]:
    cells = families.get(name)
    if cells is None:
        raise MetricMisused(f"{name} is a metric of another kind")
    return cells
