"""The Prometheus text page of a registry, written by prometheus_client; too slow for a worker's event loop."""

import platform
from collections.abc import Iterator

import prometheus_client
from prometheus_client import core
from prometheus_client.registry import Collector, CollectorRegistry

import gateway
from gateway.metrics.declared import Kind, Metric
from gateway.metrics.series import Labels, Registry


def render(registry: Registry) -> bytes:
    """Prometheus's text format: HELP and TYPE for every declared metric, its series below."""
    registry.gauge("parasol_build_info", 1, version=gateway.__version__, python=platform.python_version())
    pages = CollectorRegistry(auto_describe=False)
    pages.register(_Numbers(registry))
    return prometheus_client.generate_latest(pages)


class _Numbers(Collector):
    """Our dictionaries as prometheus_client's families."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[core.Metric]:
        for metric in self._registry.declared.values():
            match metric.kind:
                case Kind.COUNTER:
                    yield _counter(metric, self._registry.counters[metric.name].copy())
                case Kind.GAUGE:
                    yield _gauge(metric, self._registry.gauges[metric.name].copy())
                case Kind.HISTOGRAM:
                    yield _histogram(metric, self._registry.histograms[metric.name].copy())


def _counter(metric: Metric, cells: dict[Labels, float]) -> core.Metric:
    family = core.Metric(metric.name.removesuffix("_total"), metric.help, "counter")
    for key, value in cells.items():
        family.add_sample(metric.name, dict(zip(metric.labels, key, strict=True)), value)
    return family


def _gauge(metric: Metric, cells: dict[Labels, list[float]]) -> core.Metric:
    family = core.Metric(metric.name, metric.help, "gauge")
    for key, (value, _) in cells.items():
        family.add_sample(metric.name, dict(zip(metric.labels, key, strict=True)), value)
    return family


def _histogram(metric: Metric, cells: dict[Labels, list[float]]) -> core.Metric:
    """Buckets are cumulative on the page; the last is +Inf and equals the count."""
    family = core.Metric(metric.name, metric.help, "histogram")
    bounds = [*map(str, metric.buckets), "+Inf"]
    for key, cell in cells.items():
        labels = dict(zip(metric.labels, key, strict=True))
        below = 0.0
        for bound, inside in zip(bounds, cell, strict=False):  # the cell's last number is the sum
            below += inside
            family.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, below)
        family.add_sample(f"{metric.name}_count", labels, below)
        family.add_sample(f"{metric.name}_sum", labels, cell[-1])
    return family
