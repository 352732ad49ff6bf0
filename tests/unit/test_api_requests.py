from __future__ import annotations

import time
from typing import Any

import cbor2
import pytest

from actors.api.requests import MAX_ITEMS, BadRequest, parse_request
from actors.params import ContainerCreate
from actors.spec import check_plain
from shimproc.errors import InvalidArgument
from tests.support.specs import spec

SECONDS = 5.0
"""On a loaded machine; what these are about took minutes."""


def create(config: Any, **more: Any) -> bytes:
    params = {"id": "x", "spec": config}
    return cbor2.dumps({"v": 1, "id": 7, "method": "containers.create", "namespace": "n", "params": params, **more})


def refused(body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse_request(body)
    return caught.value


def test_a_large_spec_is_taken() -> None:
    config = spec(["/bin/true", "x" * (1 << 20)]) | {"annotations": {str(n): "" for n in range(20_000)}}
    params = parse_request(create(config)).params
    assert isinstance(params, ContainerCreate)
    assert params.spec == config


@pytest.mark.parametrize("item", [1, {}, "", None, [[]]], ids=repr)
def test_a_message_of_too_many_values_is_refused_before_they_are_made(item: Any) -> None:
    bad = refused(create({"many": [item] * (MAX_ITEMS + 1)}))
    assert f"more than {MAX_ITEMS} values" in bad.error.message
    assert bad.id == 7


@pytest.mark.parametrize("head", [b"\x9a\xff\xff\xff\xff", b"\xbf", b"\xba\x00\xff\xff\xff", b""], ids=repr)
def test_a_message_of_too_many_values_without_an_id_is_refused_too(head: bytes) -> None:
    assert refused(head + b"\x01" * (MAX_ITEMS + 1)).id is None


def test_long_texts_and_bytes_are_one_value_each() -> None:
    body = cbor2.dumps(
        {"v": 1, "id": 1, "method": "tasks.attach.write", "params": {"stream": 1, "data": b"\x01" * (8 << 20)}}
    )
    assert len(parse_request(body).params.data) == 8 << 20


@pytest.mark.parametrize(
    "body",
    [
        create({b"\xff" * (4 << 20): 1}),
        create({}, **{"x" * (4 << 20): 1}),
        create({}, key="k" * (4 << 20)),
        create({}, method="m" * (4 << 20)),
        create({}, namespace="n" * (4 << 20)),
    ],
    ids=["a key in a spec", "a field", "a key", "a method", "a namespace"],
)
def test_an_error_never_carries_back_what_it_is_about(body: bytes) -> None:
    assert len(refused(body).error.message) < 1000


def test_a_long_key_is_not_written_out_for_each_value_below_it() -> None:
    begun = time.monotonic()
    with pytest.raises(InvalidArgument) as caught:
        check_plain({"k" * (8 << 20): [*([1.0] * 50_000), b"x"]}, "spec")
    assert time.monotonic() - begun < SECONDS
    assert caught.value.message.startswith("spec.kkk")
    assert len(caught.value.message) < 1000
