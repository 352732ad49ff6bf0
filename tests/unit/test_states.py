"""Both state machines, read off their classes: every state answers every request."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from actors.task import exec_states
from actors.task import states as task_states
from shimproc.errors import FailedPrecondition, NotFound
from shimproc.machine import table
from shimproc.process import states as init_states

TASK = table(task_states.TASK_STATES, task_states.REQUESTS)
INIT = table(init_states.INIT_STATES, init_states.REQUESTS)
EXEC = table(exec_states.EXEC_STATES, exec_states.REQUESTS)
SHIM_EXEC = table(init_states.EXEC_STATES, init_states.EXEC_REQUESTS)


@pytest.mark.parametrize(
    ("known", "states", "requests"),
    [
        (TASK, task_states.TASK_STATES, task_states.REQUESTS),
        (INIT, init_states.INIT_STATES, init_states.REQUESTS),
        (EXEC, exec_states.EXEC_STATES, exec_states.REQUESTS),
        (SHIM_EXEC, init_states.EXEC_STATES, init_states.EXEC_REQUESTS),
    ],
    ids=["task", "init", "exec", "the shim's exec"],
)
def test_every_state_answers_every_request(known: dict[Any, Any], states: tuple[Any, ...], requests: tuple[str, ...]) -> None:
    assert set(known) == {(state.name, request) for state, request in product(states, requests)}


def test_a_refusal_names_request_and_state() -> None:
    with pytest.raises(FailedPrecondition, match="cannot start a running task"):
        task_states.Running().start()


def test_a_refused_delete_says_what_would_help() -> None:
    with pytest.raises(FailedPrecondition, match="cannot delete a running task; stop it first, or delete it with force"):
        task_states.Running().delete()


def test_a_kill_after_the_exit_is_not_found() -> None:
    with pytest.raises(NotFound, match="already exited"):
        task_states.Stopped().kill()
    with pytest.raises(NotFound, match="already exited"):
        init_states.Stopped().kill()


def test_a_running_task_is_deleted_only_with_force() -> None:
    assert TASK["running", "delete"] == "failed_precondition"
    assert TASK["running", "force_delete"] == "deleting"
    assert INIT["running", "delete"] == "failed_precondition"
    assert INIT["running", "force_delete"] == "deleting"


def test_the_way_of_every_task_leads_through_all_states() -> None:
    way = ["created", "start", "started", "exited", "delete"]
    state = "creating"
    seen = [state]
    for request in way:
        state = TASK[state, request]
        seen.append(state)
    assert seen == ["creating", "created", "starting", "running", "stopped", "deleting"]


def test_an_init_that_dies_before_its_start_is_stopped() -> None:
    assert INIT["created", "exited"] == "stopped"
    assert TASK["created", "exited"] == "stopped"
    assert TASK["starting", "exited"] == "stopped"


def test_an_exit_never_comes_out_of_a_state_that_has_ended() -> None:
    assert TASK["stopped", "exited"] == "failed_precondition"
    assert INIT["stopped", "exited"] == "failed_precondition"
    assert INIT["deleted", "exited"] == "failed_precondition"


def test_what_clients_see_is_a_status_of_the_contract() -> None:
    contract = {"creating", "created", "running", "pausing", "paused", "stopped", "deleting"}
    assert {state.status for state in task_states.TASK_STATES} <= contract
