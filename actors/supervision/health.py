"""How a task's health follows from its probes: docker's rules (https://docs.docker.com/reference/dockerfile/#healthcheck)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from actors.records import Health

STARTING: Final = "starting"
HEALTHY: Final = "healthy"
UNHEALTHY: Final = "unhealthy"


@dataclass(frozen=True, slots=True)
class Condition:
    """What ``tasks.get`` shows as ``health``.

    Parameters
    ----------
    status : ``starting``, ``healthy`` or ``unhealthy``.
    failing_streak : the last probes, as far as they failed and count.
    checked_at : the end of the last probe, ns since the epoch.
    exit_status : of the last probe; None if it could not be run.
    message : why the last one failed, where its exit status does not say.
    """

    status: str = STARTING
    failing_streak: int = 0
    checked_at: int | None = None
    exit_status: int | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """How one probe ended, at ``at``, ns since the epoch. Status 0 is health."""

    at: int
    exit_status: int | None
    message: str | None = None


def judged(before: Condition, health: Health, probe: Probe, *, starting: bool) -> Condition:
    """The condition after a probe.

    Parameters
    ----------
    starting : is this still within ``start_period``? Until it was healthy once, a failure does not count then.
    """
    seen = replace(before, checked_at=probe.at, exit_status=probe.exit_status, message=probe.message)
    if probe.exit_status == 0:
        return replace(seen, status=HEALTHY, failing_streak=0)
    if before.status == STARTING and starting:
        return seen
    streak = before.failing_streak + 1
    return replace(seen, failing_streak=streak, status=UNHEALTHY if streak >= health.retries else before.status)
