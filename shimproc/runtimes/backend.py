"""What a shim asks of whatever makes its container's processes: an OCI runtime, or plain processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Backend(Protocol):
    """One container."""

    async def create(self, fds: tuple[int, int, int]) -> int:
        """Make init with these as its 0, 1 and 2, held before the user's program; returns its pid.

        To be called while the reaper is ``expecting``. After a failure ``delete`` removes what there is of it.
        """

    async def settle(self) -> None:
        """Taking over from a killed shim: let what it had begun come to its end."""

    def adopt(self, pid: int, kept: dict[str, int]) -> None:
        """Go on with init ``pid``, which a killed shim made. ``kept``: its ``keepsakes``; those taken are removed."""

    async def is_started(self) -> bool:
        """Was an adopted init let go?"""

    @property
    def keepsakes(self) -> Mapping[str, int]:
        """Descriptors without which the next shim could not go on."""

    async def start(self) -> None:
        """Let it go. An error with ``details.kind`` ``not_found_executable`` or ``not_executable``: no program ran."""

    async def delete(self, *, force: bool) -> None:
        """Remove what the runtime keeps of the container; that it keeps nothing is success."""

    def pids(self) -> list[int]:
        """Every process of the container now. Only until init is reaped."""

    def signal_all(self, number: int) -> None:
        """Signal every process of the container, without a fork. Only until init is reaped."""

    def kill_leftovers(self) -> None:
        """After init's exit: SIGKILL to what is left."""
