"""The command ``shimyard``: finds the verb, then imports the one module that knows it, so that every start is short.

Exit status: 0; 1 for a failure, 2 for wrong usage (both 125 with ``run``, which otherwise ends as its command does); 130 for
Ctrl-C, 141 for a reader that has gone away, as a shell would say. Messages go to stderr and begin with ``shimyard``.
"""

from __future__ import annotations

import importlib
import os
import sys
from argparse import REMAINDER, SUPPRESS, Namespace
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from actors.cli.output import complain
from actors.cli.parser import Parser, RawDescription, Verb, add_globals, did_you_mean
from actors.release import NAME, VERSION
from shimproc.errors import ShimyardError

INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
_OWN_FAILURE: Final = 125
_COMPLETE: Final = "__complete"
"""What completion scripts call; not for people."""


class Command(NamedTuple):
    """A verb: the module that has it in its ``VERBS``, and what it exits with when it fails or is used wrongly."""

    module: str
    help: str
    failure: int = 1
    misuse: int = 2


COMMANDS: Final[Mapping[str, Command]] = {
    "run": Command("run", "run a command in a new container, as if it ran here", _OWN_FAILURE, _OWN_FAILURE),
    "exec": Command("execs", "run one more command in a running task, as if it ran here", _OWN_FAILURE, _OWN_FAILURE),
    "attach": Command("attach", "show what a running task writes, and pass on what is typed"),
    "ps": Command("tasks", "list tasks"),
    "start": Command("tasks", "start containers in the background"),
    "stop": Command("tasks", "ask tasks to end, and insist"),
    "kill": Command("tasks", "send a signal to tasks"),
    "wait": Command("tasks", "wait until tasks have ended, and print their exit statuses"),
    "rm": Command("tasks", "remove tasks and their containers"),
    "logs": Command("logs", "show what a task has written"),
    "inspect": Command("tasks", "show containers and their tasks as JSON"),
    "status": Command("status", "tell how a task is: its state, processes, usage and last output"),
    "is-active": Command("status", "tell by word and exit status whether tasks run"),
    "stats": Command("stats", "show what tasks use, live"),
    "top": Command("top", "show all tasks live, to sort, look into and kill"),
    "pause": Command("control", "freeze tasks"),
    "resume": Command("control", "let paused tasks go on"),
    "unpause": Command("control", "the same as resume"),
    "update": Command("control", "change the limits of running tasks"),
    "checkpoint": Command("control", "write a task's state to a folder, and end it"),
    "restore": Command("control", "let a task go on from its checkpoint"),
    "events": Command("events", "show what happens, from now on or from an earlier moment on"),
    "containers": Command("containers", "list, show, create, change and remove containers"),
    "namespaces": Command("namespaces", "list, create, change and remove namespaces"),
    "daemon": Command("daemon", "run the daemon in the foreground, or stop it"),
    "keys": Command("keys", "make a pair of keys for tcp:// addresses"),
    "doctor": Command("doctor", "check what this host can run, and say what is missing"),
    "completion": Command("completion", "print a script that completes commands, options and ids in a shell"),
    "version": Command("version", "show the versions of this command and of the daemon"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's own); the exit status. Usage errors and help end by ``SystemExit``."""
    _hold_standard_descriptors()
    command = None
    try:
        arguments = _top().parse_args(argv)
        name = arguments.verb
        if name == "help":
            name, arguments.rest = next(iter(arguments.rest), None), ["--help"]
        if name is None:
            _top().print_help()
            return _flushed(0)
        command = _known(name)
        return _flushed(_execute(name, command, arguments))
    except ShimyardError as error:
        complain(error, as_json="arguments" in locals() and arguments.json)
        return command.failure if command else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE


def _execute(name: str, command: Command, arguments: Namespace) -> int:
    verb: Verb = importlib.import_module(f"actors.cli.{command.module}").VERBS[name]
    parser = Parser(prog=f"shimyard {name}", description=_sentence(command.help), misuse=command.misuse)
    verb.configure(parser)
    add_globals(parser)
    return verb.execute(parser.parse_args(arguments.rest, arguments))


def _known(name: str) -> Command:
    if name == _COMPLETE:
        return Command("completion", "complete a command line")
    if name not in COMMANDS:
        _top().error(f"unknown command {name!r}{did_you_mean(name, COMMANDS)}")
    return COMMANDS[name]


def _top() -> Parser:
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:{width}}{command.help}" for name, command in COMMANDS.items())
    parser = Parser(
        prog="shimyard",
        usage="shimyard [options] COMMAND ...",
        description="Runs and supervises many isolated tasks on one Linux host, and never loses one.",
        epilog=f"commands:\n{commands}\n\n'shimyard COMMAND --help' tells more of each.",
        formatter_class=RawDescription,
    )
    parser.add_argument("--version", action="version", version=f"{NAME} {VERSION}", help="show this command's version, and exit")
    add_globals(parser, first=True)
    parser.add_argument("verb", nargs="?", help=SUPPRESS)
    parser.add_argument("rest", nargs=REMAINDER, help=SUPPRESS)
    return parser


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _hold_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed, the next file that is opened would become it, and be written to by mistake."""
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, flags)  # the lowest that is free, so this one


def _flushed(status: int) -> int:
    if sys.stdout is not None:
        sys.stdout.flush()
    return status


def _silence_stdout() -> None:
    """What is still in Python's buffer would fail again, aloud, when the interpreter ends."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)
