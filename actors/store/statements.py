"""Statements that take many rows at once, and changes that are made of them.

Each step of a statement gives the interpreter lock away and has to win it back, which costs far more than the row
when the loop is busy. So a group of 64 pieces writes its rows with a handful of statements instead of hundreds.
"""

from __future__ import annotations

import abc
import functools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Protocol

Row = tuple[Any, ...]
SIZES = (64, 16, 4, 1)
"""Rows a statement takes: few different texts, so that each is prepared once and stays in the connection's cache."""


@dataclass(frozen=True, slots=True)
class Statement:
    """``head``, then ``row`` once for each row, then ``tail``; it changes ``table`` and nothing else."""

    table: str
    head: str
    row: str
    tail: str = ""

    def run(self, db: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Carry it out for all ``rows``, in order, inside the caller's transaction."""
        for part in split(rows):
            db.execute(_text(self, len(part)), tuple(chain.from_iterable(part)))


class Applicable(Protocol):
    """A change that does as it likes (``actors.messages.Change``)."""

    def apply(self, db: sqlite3.Connection) -> None: ...


class RowChange(abc.ABC):
    """A change that is one row of a statement, and can be made together with others of its kind."""

    __slots__ = ()
    statement: ClassVar[Statement]

    @abc.abstractmethod
    def columns(self) -> Row:
        """What ``statement`` is given."""

    def apply(self, db: sqlite3.Connection) -> None:
        """Carry it out alone."""
        self.statement.run(db, [self.columns()])


def split(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """``rows`` in order, in parts of the lengths ``SIZES``."""
    start = 0
    for size in SIZES:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


def apply_all(db: sqlite3.Connection, changes: Iterable[Applicable]) -> None:
    """Make ``changes``, for each table in order; tables know nothing of one another, so rows of one go together."""
    runs: dict[str, list[tuple[Statement, list[Row]]]] = {}
    for change in changes:
        if not isinstance(change, RowChange):
            _flush(db, runs)
            change.apply(db)
            continue
        of_table = runs.setdefault(change.statement.table, [])
        if not of_table or of_table[-1][0] is not change.statement:
            of_table.append((change.statement, []))
        of_table[-1][1].append(change.columns())
    _flush(db, runs)


def _flush(db: sqlite3.Connection, runs: dict[str, list[tuple[Statement, list[Row]]]]) -> None:
    for of_table in runs.values():
        for statement, rows in of_table:
            statement.run(db, rows)
    runs.clear()


@functools.cache
def _text(statement: Statement, rows: int) -> str:
    return statement.head + ",".join([statement.row] * rows) + statement.tail
