"""What front end and exchange measure of themselves, for the metrics to tell: plain numbers, kept where they arise."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds for what a request takes."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram as Prometheus has it: (upper bound, how many were no more), the last bound infinite; ``total`` is their sum."""

    buckets: tuple[tuple[float, int], ...]
    total: float


class Histogram:
    """How often values lay between ``bounds``, which grow."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = (*bounds, float("inf"))
        self._counts = [0] * len(self._bounds)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def distribution(self) -> Distribution:
        """As it is now."""
        return Distribution(tuple(zip(self._bounds, accumulate(self._counts), strict=True)), self._total)


class Meter:
    """The requests that were answered, and how long that took."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, str]] = Counter()
        self._durations: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(SECONDS))

    def answered(self, method: str, code: str, seconds: float | None) -> None:
        """``code``: ``ok``, or the error's; ``seconds`` is None for what takes as long as a task, or a client, wants."""
        self._answers[method, code] += 1
        if seconds is not None:
            self._durations[method].observe(seconds)

    def answers(self) -> Mapping[tuple[str, str], int]:
        """How many, by method and code."""
        return dict(self._answers)

    def durations(self) -> Mapping[str, Distribution]:
        """By method."""
        return {method: histogram.distribution() for method, histogram in self._durations.items()}


@dataclass(frozen=True, slots=True)
class ApiLoad:
    """Of the front end. ``clients``: those with something in flight; ``backlog``: bytes that wait for slow ones."""

    clients: int = 0
    in_flight: int = 0
    streams: int = 0
    backlog: int = 0
    answers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    durations: Mapping[str, Distribution] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExchangeLoad:
    """Of the exchange. ``pending``: pieces that wait for their commit; ``commits``: groups of them since the daemon's start;
    ``subscribers``: connections at the events socket."""

    last_seq: int = 0
    oldest_seq: int = 1
    pending: int = 0
    commits: int = 0
    subscribers: int = 0
