"""Where the simulation's stand-ins find the host that is simulated now: one at a time in a Python process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.kernel import Kernel


class Stage:
    """``kernel``: of the seed that runs; ``world``: what else there is of it."""

    kernel: Kernel
    world: Any


STAGE = Stage()
