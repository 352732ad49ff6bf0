"""Seeds that found something: each is played again by every test run."""

from __future__ import annotations

KEPT: dict[int, str] = {
    31: "a run whose start was under way when the daemon was killed was refused: cannot start a starting task; and undone",
    41: "a start that was under way when the daemon was killed was refused to whoever repeated it with its key",
    1204: "a start that had failed was answered as done: its shim was killed after it had told that, and before it answered",
    110: "a run whose program is missing was answered as done by the daemon after the one that was killed",
    654: "a shim that was forked just before its forkserver was killed lived on beside another one on the same bundle",
    673: "the delete of an exec that could not be started was answered with its reason, and to a repetition without",
    97: "a task whose shim could not be had at the daemon's start was stuck for ever once it could",
    686: "an undo at the daemon's start gave up where the host had no process to spare, and left a container behind",
    167: "an exec was deleted before it ended, by a clock that was set back",
    899: "a forkserver that could not be spawned was told as a TypeError",
}
