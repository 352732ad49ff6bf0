"""The shim's service, by what it says on its links."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shimproc.flow import Pending
from shimproc.io.keepsakes import Nobody
from shimproc.journal import Journal
from shimproc.loop import Loop
from shimproc.messages import Hello, request_frame
from shimproc.reaper import Reaper
from shimproc.service import Service


def test_an_answer_goes_to_the_link_that_asked_and_to_no_later_one(tmp_path: Path) -> None:
    loop = Loop()
    service = Service(loop, Reaper(loop), Journal(str(tmp_path / "journal")), Nobody(), lambda: None)
    told: dict[str, list[Mapping[str, Any]]] = {"first": [], "second": []}
    service.attach(told["first"].append)
    adopting = service._adopting = Pending()  # what is asked meanwhile is answered later
    service.receive(request_frame(1, Hello()))
    service.attach(told["second"].append)
    service._adopting = None
    adopting.set(None)
    assert not any(told.values())
    service.receive(request_frame(1, Hello()))
    assert [frame["a"] for frame in told["second"]] == [1]
    loop.close()
