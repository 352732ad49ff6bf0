"""When a task that has ended is started again, and after how long: docker's restart policies, with their backoff
(https://docs.docker.com/engine/containers/start-containers-automatically/), decided from facts alone.
"""

from __future__ import annotations

from typing import Final

from actors.records import Container, Restart

FIRST_SECONDS: Final = 0.1
"""The first delay, where the policy gives none; each further one is twice as long."""
LONGEST_SECONDS: Final = 60.0
STEADY_NS: Final = 10 * 10**9
"""A task that ran for so long had recovered: its next delay is the first again."""


def policy_of(container: Container | None) -> Restart | None:
    """The policy that is to be followed; None for none."""
    restart = None if container is None else container.restart
    return None if restart is None or restart.policy == "no" else restart


def is_followed(restart: Restart, exit_status: int, restarts: int) -> bool:
    """Is a task that ended so, not on purpose, started again?

    Parameters
    ----------
    restarts : how often it was since somebody started it by hand.
    """
    if restart.policy == "on-failure" and exit_status == 0:
        return False
    return restart.max_retries is None or restarts < restart.max_retries


def delay(restart: Restart, streak: int) -> float:
    """Seconds until the next start.

    Parameters
    ----------
    streak : the restarts in a row of which none ran for long.
    """
    first = FIRST_SECONDS if restart.backoff is None else restart.backoff
    return float(min(first * 2 ** min(streak, 32), max(first, LONGEST_SECONDS)))
