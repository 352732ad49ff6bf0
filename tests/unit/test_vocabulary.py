"""One word for one thing, everywhere: the contract, the table of methods, the client, the errors, the messages."""

from __future__ import annotations

import ast
import dataclasses
import inspect

import pytest

from actors import messages
from actors.client import AsyncClient, Client
from actors.dispatch import handler_name
from actors.methods import METHODS
from actors.params import PARAMS
from shimproc import errors
from tests.support.contract import Documented, error_codes, methods
from tests.support.sources import sources

DOCUMENTED = methods()
WITHIN_STREAMS = {"stream.credit", "stream.cancel", "tasks.attach", "tasks.attach.write", "events.watch"}
"""Not called by name: the client's iterators speak them."""
PARTS = {"Begun", "NewEvent", "Published"}
"""Not messages themselves, but what messages carry."""
TAKEN_BY_THE_STORE = {"Commit", "Read"}
"""An actor with a thread of its own, which takes them as they come (``on_receive``)."""
ERRORS = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__]


def test_the_table_of_methods_is_the_contracts() -> None:
    assert {row.name for row in DOCUMENTED} | {"tasks.attach.write"} == METHODS.keys()  # it is in tasks.attach's row


def test_every_method_has_its_params() -> None:
    assert PARAMS.keys() == METHODS.keys()


@pytest.mark.parametrize("row", DOCUMENTED, ids=lambda row: row.name)
def test_a_method_needs_a_namespace_where_the_contract_says_so(row: Documented) -> None:
    assert METHODS[row.name].namespaced == row.namespaced


@pytest.mark.parametrize("row", [row for row in DOCUMENTED if row.params is not None], ids=lambda row: row.name)
def test_a_method_takes_the_params_of_the_contract(row: Documented) -> None:
    assert row.params is not None
    fields = {field.name: field for field in dataclasses.fields(PARAMS[row.name])}
    assert row.params.keys() <= fields.keys()
    for name, required in row.params.items():
        if not required:
            assert not is_required(fields[name]), f"{name} is optional"
    more = {name for name, field in fields.items() if name not in row.params and is_required(field)}
    assert not more, "the contract may be extended by optional params only"


def is_required(field: dataclasses.Field[object]) -> bool:
    """Has it no default?"""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("name", sorted(METHODS.keys() - WITHIN_STREAMS))
def test_both_clients_have_every_method_by_its_name(client: type[Client | AsyncClient], name: str) -> None:
    found: object = client(address="ipc:///nowhere/api.sock")
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)


def test_the_error_codes_are_the_contracts_one_a_class() -> None:
    codes = [cls.code for cls in errors.CLASSES]
    assert set(codes) == error_codes()
    assert len(codes) == len(set(codes))


def test_every_error_class_is_translated_both_ways() -> None:
    assert set(ERRORS) - {errors.ShimyardError} == set(errors.CLASSES)
    for cls in errors.CLASSES:
        back = errors.from_map(errors.to_map(cls("what went wrong", {"field": "id"})))
        assert (type(back), back.message, back.details) == (cls, "what went wrong", {"field": "id"})


def test_every_message_has_a_handler() -> None:
    defined = {
        node.name
        for source in sources("actors")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("on_")
    }
    kinds = {
        name
        for name, value in vars(messages).items()
        if dataclasses.is_dataclass(value) and getattr(value, "__module__", "") == messages.__name__
    }
    missing = {name for name in kinds - PARTS - TAKEN_BY_THE_STORE if handler_name(name) not in defined}
    assert not missing, "messages that nobody handles"
