"""Metrics with labels, bounded, and counts that are only read when somebody asks.

Two ways in. What happens now and then is observed where it happens (`Family`).
What happens thousands of times a second is a plain integer where it happens, and
`Readings` reads it at scrape time: the hot path pays nothing for being watched.

Labels are bounded: a job that is forgotten takes its series with it, and beyond
`SERIES_MAX` label sets of one metric all further ones share the set "other", so
that no user and no bug can fill the memory of Prometheus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SERIES_MAX = 256
"""Label sets of one metric."""
OTHER = "other"
"""Every label of the set that takes what does not fit."""

M = TypeVar("M", Counter, Gauge, Histogram)
Read = Callable[[], Mapping[Any, float] | float]


class Family(Generic[M]):
    """One metric and its label sets."""

    def __init__(self, metric: M, labels: int, series_max: int = SERIES_MAX) -> None:
        self._metric = metric
        self._labels = labels
        self._series_max = series_max
        self._series: dict[tuple[object, ...], M] = {}

    def of(self, *labels: object) -> M:
        """The series with these label values, in the order of the declaration."""
        series = self._series.get(labels)
        return series if series is not None else self._add(labels)

    def forget(self, first: object) -> None:
        """Drop every series whose first label has this value."""
        for labels in [labels for labels in self._series if labels[0] == first]:
            del self._series[labels]
            self._metric.remove(*labels)

    def _add(self, labels: tuple[object, ...]) -> M:
        if not self._labels:
            return self._metric
        if len(self._series) >= self._series_max:
            return self._metric.labels(*(OTHER,) * self._labels)
        series = self._series[labels] = self._metric.labels(*labels)
        return series


class Sheet:
    """Declares metrics on one registry; remembers which of them belong to jobs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._of_jobs: list[Callable[[object], None]] = []

    def counter(self, name: str, text: str, *labels: str) -> Family[Counter]:
        """Only grows; its name ends in `_total`."""
        return self._kept(Family(Counter(name, text, labels, registry=self.registry), len(labels)), labels)

    def gauge(self, name: str, text: str, *labels: str) -> Family[Gauge]:
        """Goes up and down."""
        return self._kept(Family(Gauge(name, text, labels, registry=self.registry), len(labels)), labels)

    def histogram(self, name: str, text: str, *labels: str, buckets: Sequence[float]) -> Family[Histogram]:
        """A distribution."""
        metric = Histogram(name, text, labels, registry=self.registry, buckets=buckets)
        return self._kept(Family(metric, len(labels)), labels)

    def forget_job(self, job: str) -> None:
        """Drop every series of a job that has ended."""
        for forget in self._of_jobs:
            forget(job)

    def _kept(self, family: Family[M], labels: Iterable[str]) -> Family[M]:
        if next(iter(labels), None) == "job":
            self._of_jobs.append(family.forget)
        return family


class Readings(Collector):
    """Plain numbers elsewhere, read when Prometheus asks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._readings: dict[str, tuple[str, str, Read]] = {}
        registry.register(self)

    def add(self, name: str, text: str, read: Read, label: str = "") -> None:
        """Export what `read` gives: a number, or one per value of `label`.

        A name that ends in `_total` is a counter, any other a gauge. Reading the
        same name again replaces the first.
        """
        self._readings[name] = (text, label, read)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        for name, (text, label, read) in self._readings.items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            metric = kind(name, text, labels=[label] if label else [])
            found = read()
            values = found if isinstance(found, Mapping) else {"": found}
            for value, number in _bounded(values):
                metric.add_metric([str(value)] if label else [], number)
            yield metric


def _bounded(values: Mapping[Any, float]) -> Iterator[tuple[object, float]]:
    """At most SERIES_MAX values; the rest is one sum."""
    rest = 0.0
    for number, (value, count) in enumerate(values.items()):
        if number < SERIES_MAX:
            yield value, count
        else:
            rest += count
    if len(values) > SERIES_MAX:
        yield OTHER, rest
