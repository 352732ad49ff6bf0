"""Requests of the daemon's own: the same as a client's, to the same actor, answered to a flow."""

from __future__ import annotations

from typing import Any

import pykka

from actors.dispatch import post
from actors.messages import Call, Change, OwnCall, Stream
from actors.params import PARAMS
from shimproc.errors import Unimplemented
from shimproc.flow import Pending


class Answer:
    """A ``Reply`` whose answer is awaited in this process. It lives as long as the daemon, so no key is kept for it."""

    open = True
    key = ""

    def __init__(self) -> None:
        self.came: Pending[Any] = Pending()

    def ok(self, result: Any) -> None:
        """It was done."""
        self.came.set(result)

    def fail(self, error: BaseException) -> None:
        """It was not."""
        self.came.fail(error)

    def kept(self, result: Any) -> tuple[Change, ...]:  # noqa: ARG002 - as every Reply
        """Nothing."""
        return ()

    def stream(self, *_: Any, **__: Any) -> Stream:
        """No request of the daemon's own streams."""
        raise Unimplemented("a request of the daemon's own is answered once")


def ask(runtime: pykka.ActorRef[Any], method: str, namespace: str, **params: Any) -> Pending[Any]:
    """What ``method`` answers, as its record; params are the wire's names, as records. Fails with what it refuses with."""
    answer = Answer()
    post(runtime, OwnCall(Call(method, namespace, PARAMS[method](**params), answer)))
    return answer.came
