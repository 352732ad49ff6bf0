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
    797: "a create that failed on a host without room for a process left its container behind, running",
    463: "a link that was cut just before its shim was killed: no such process, where another shim was on its way",
    1438: "a forkserver told an exit before the shim that takes over asked for it, and a kernel that does not tell: shim-lost",
    555: "the daemon was killed while it stopped",
    213: "a delete was done by a shim that was then without a daemon, and could not be said",
    273: "a start that a former daemon had asked for came to its end just before it was asked for again",
    3086: "a late answer went to a later link, where its number was another request's: a start's outcome for a hello",
    2247: "a pid of a command that had ended was killed, and was another command's by then",
    2939: "an exec was not found while its task had no shim that could know it",
    1866: "a shim that could not undo a create took the next one, and forgot the first",
    2454: "the daemon was killed in the midst of its stop",
    3658: "a run that had failed on a host without room was left behind: nothing on disk said that it was to go",
    5082: "a container that was just being updated was not removed with its run",
    758: "a run that had failed was begun anew for a repetition, beside its own remains",
    100709: "a take-over on a host without room for a process could not ask whether its task had started, and was given up",
}
