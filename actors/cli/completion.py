"""``shimyard completion bash|zsh|fish``: a script for the shell, which asks ``shimyard __complete`` at each Tab.

    eval "$(shimyard completion bash)"

``__complete WORD ...`` has the words behind ``shimyard``, the last one being typed, and prints ``candidate TAB description``
lines; ``:files`` means that the shell may offer files. It never fails, and never waits long for a daemon.
"""

from __future__ import annotations

import argparse
import importlib
from argparse import REMAINDER, Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from actors.cli.connection import connect
from actors.cli.parser import Parser, Verb, add_globals
from shimproc.errors import ShimyardError

FILES: Final = ":files"
_SECONDS: Final = 1.0
_ENDED_TOO: Final = ("rm", "start", "logs", "inspect", "wait", "status", "is-active", "restore")
_GLOBAL_WITH_VALUE: Final = ("-n", "--namespace", "--state", "--address", "--key", "--server-key")
_BASH: Final = r"""_shimyard() {
    local IFS=$'\n' line
    COMPREPLY=()
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    for line in $(shimyard __complete -- "${words[@]}" 2>/dev/null); do
        if [[ $line == :files ]]; then
            compopt -o default 2>/dev/null
        else
            COMPREPLY+=("${line%%$'\t'*}")
        fi
    done
}
complete -F _shimyard shimyard
"""
_ZSH: Final = r"""#compdef shimyard
_shimyard() {
    local -a lines shown
    local line
    lines=("${(@f)$(shimyard __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in $lines; do
        if [[ $line == :files ]]; then
            _files
        else
            shown+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
        fi
    done
    (( $#shown )) && _describe -V shimyard shown
}
if [[ $funcstack[1] == _shimyard ]]; then _shimyard; else compdef _shimyard shimyard; fi
"""
_FISH: Final = r"""function __shimyard_complete
    set -l words (commandline -opc)[2..-1] (commandline -ct)
    for line in (shimyard __complete -- $words 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c shimyard -f -a '(__shimyard_complete)'
"""
_SCRIPTS: Final[Mapping[str, str]] = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def _configure(parser: Parser) -> None:
    parser.add_argument("shell", choices=tuple(_SCRIPTS), help="the shell it is for")
    parser.epilog = 'Put into its start file: eval "$(shimyard completion bash)", or for fish: shimyard completion fish | source'


def _completion(arguments: Namespace) -> int:
    print(_SCRIPTS[arguments.shell], end="")
    return 0


def _configure_complete(parser: Parser) -> None:
    parser.add_argument("words", nargs=REMAINDER)


def _complete(arguments: Namespace) -> int:
    from actors.cli import COMMANDS  # noqa: PLC0415 - it imports this module

    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    known = {name: command.help for name, command in COMMANDS.items()}
    for candidate, description in _Line(arguments, words, known).candidates():
        print(f"{candidate}\t{description}" if description else candidate)
    return 0


class _Line:
    """What has been typed until now."""

    def __init__(self, arguments: Namespace, words: Sequence[str], commands: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._before = list(words[:-1])
        self._typed = words[-1] if words else ""
        self._commands = commands

    def candidates(self) -> Iterator[tuple[str, str]]:
        """For the last word."""
        for candidate, description in self._all():
            if candidate == FILES or candidate.startswith(self._typed):
                yield candidate, description

    def _all(self) -> Iterator[tuple[str, str]]:
        before = self._without_globals()
        if before is None:
            return
        if not before:
            parser = Parser(prog="shimyard")
            add_globals(parser, first=True)
            yield from _options(parser) if self._typed.startswith("-") else self._commands.items()
            return
        verb, *rest = before
        if verb == "help":
            yield from self._commands.items()
            return
        if verb not in self._commands:
            return
        yield from self._of_verb(verb, rest)

    def _without_globals(self) -> list[str] | None:
        """The words before, from the verb on; None if the one being typed is the value of an option before it."""
        rest = list(self._before)
        while rest and rest[0].startswith("-"):
            option = rest.pop(0)
            if option in _GLOBAL_WITH_VALUE:
                if not rest:
                    return None
                self._note(option, rest.pop(0))
        return rest

    def _note(self, option: str, value: str) -> None:
        """Where the ids are to be looked up."""
        name = {"-n": "namespace"}.get(option, option.lstrip("-").replace("-", "_"))
        if hasattr(self._arguments, name):
            setattr(self._arguments, name, value)

    def _of_verb(self, verb: str, rest: list[str]) -> Iterator[tuple[str, str]]:
        parser = _parser_of(verb)
        actions = next((one for one in parser._actions if isinstance(one, argparse._SubParsersAction)), None)  # noqa: SLF001 - nothing else tells
        if actions is not None:
            chosen = next((word for word in rest if word in actions.choices), None)
            if chosen is None:
                yield from ((choice.dest, choice.help or "") for choice in actions._choices_actions)  # noqa: SLF001
                return
            parser, rest = actions.choices[chosen], rest[rest.index(chosen) + 1 :]
        yield from self._of_parser(parser, verb, rest)

    def _of_parser(self, parser: argparse.ArgumentParser, verb: str, rest: list[str]) -> Iterator[tuple[str, str]]:
        positionals, pending = self._read(parser, rest)
        options = parser._option_string_actions  # noqa: SLF001
        if pending is not None:
            yield from _values(options[pending])
        elif self._typed.startswith("-"):
            yield from _options(parser)
        else:
            arguments = [one for one in parser._actions if not one.option_strings]  # noqa: SLF001
            at = min(positionals, len(arguments) - 1)
            if at >= 0:
                yield from self._of_argument(arguments[at], verb)

    def _read(self, parser: argparse.ArgumentParser, rest: list[str]) -> tuple[int, str | None]:
        """How many positionals there are already, and the option whose value is being typed."""
        options = parser._option_string_actions  # noqa: SLF001
        positionals, at = 0, 0
        while at < len(rest):
            word = rest[at]
            action = options.get(word)
            if action is not None and action.nargs is None:
                if at + 1 == len(rest):
                    return positionals, word
                at += 1
                self._note(word, rest[at])
            elif action is None and not word.startswith("-"):
                positionals += 1
            at += 1
        return positionals, None

    def _of_argument(self, argument: argparse.Action, verb: str) -> Iterator[tuple[str, str]]:
        if argument.choices is not None:
            yield from _values(argument)
        elif argument.dest == "id":
            yield from self._ids(verb)
        else:
            yield FILES, ""

    def _ids(self, verb: str) -> Iterator[tuple[str, str]]:
        """Asked of the daemon, if there is one."""
        try:
            with connect(self._arguments, timeout=_SECONDS) as client:
                if verb in ("containers", *_ENDED_TOO):
                    yield from ((one.id, "container") for one in client.containers.list())
                else:
                    yield from ((one.id, one.status) for one in client.tasks.list(["status!=stopped"]))
        except ShimyardError:
            return


def _parser_of(verb: str) -> Parser:
    from actors.cli import COMMANDS  # noqa: PLC0415 - it imports this module

    found: Verb = importlib.import_module(f"actors.cli.{COMMANDS[verb].module}").VERBS[verb]
    parser = Parser(prog=f"shimyard {verb}")
    found.configure(parser)
    add_globals(parser)
    return parser


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:  # noqa: SLF001
        if action.help is not argparse.SUPPRESS:
            yield from ((option, _plain(action.help)) for option in action.option_strings)


def _values(action: argparse.Action) -> Iterator[tuple[str, str]]:
    if action.choices is not None:
        yield from ((str(choice), "") for choice in action.choices)
    else:
        yield FILES, ""


def _plain(text: Any) -> str:
    return str(text or "").replace("%%", "%")


VERBS = {"completion": Verb(_configure, _completion), "__complete": Verb(_configure_complete, _complete)}
