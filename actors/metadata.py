"""``namespaces.*`` and ``containers.*``: records with no process behind them. Changed on disk first, then in memory."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from actors.catalog import Catalog
from actors.exchange import ExchangeClient
from actors.filters import compile_filters
from actors.messages import Call, Change, NewEvent
from actors.params import ContainerCreate, TaskRun
from actors.records import Container, Namespace
from actors.registry import Registry
from actors.shape import dump
from actors.spec import check_container, check_labels, check_restart, check_spec
from actors.store.containers import DropContainer, PutContainer
from actors.store.namespaces import DropNamespace, PutNamespace
from shimproc.errors import AlreadyExists, FailedPrecondition


class Metadata:
    """Serves the calls on the runtime's behalf; ``tasks`` only tells whether a container has one."""

    def __init__(self, catalog: Catalog, exchange: ExchangeClient, tasks: Registry) -> None:
        self._catalog = catalog
        self._exchange = exchange
        self._tasks = tasks

    # -- namespaces

    async def create_namespace(self, call: Call) -> Namespace:
        """``AlreadyExists``."""
        name = call.params.name
        if self._catalog.has_namespace(name):
            raise AlreadyExists(f"the namespace {name} exists already")
        return await self._put_namespace(call, Namespace(name, check_labels(call.params.labels)), "create")

    async def update_namespace(self, call: Call) -> Namespace:
        """Labels that are given replace the old ones."""
        old = self._catalog.namespace(call.params.name)
        labels = old.labels if call.params.labels is None else check_labels(call.params.labels)
        return await self._put_namespace(call, Namespace(old.name, labels), "update")

    async def list_namespaces(self, _: Call) -> Mapping[str, Any]:
        """By name."""
        return {"namespaces": [dump(namespace) for namespace in self._catalog.namespaces()]}

    async def delete_namespace(self, call: Call) -> Mapping[str, Any]:
        """Only an empty one."""
        name = call.params.name
        self._catalog.namespace(name)
        if not self._catalog.is_empty(name):
            raise FailedPrecondition(f"the namespace {name} is not empty; delete its containers first")
        changes = (DropNamespace(name), *call.reply.kept({}))
        await self._exchange.publish(_namespace_event("delete", name, None), changes=changes)
        if self._catalog.is_empty(name):
            self._catalog.drop_namespace(name)
        return {}

    async def _put_namespace(self, call: Call, namespace: Namespace, verb: str) -> Namespace:
        event = _namespace_event(verb, namespace.name, namespace.labels)
        await self._exchange.publish(event, changes=(PutNamespace(namespace), *call.reply.kept(namespace)))
        self._catalog.put_namespace(namespace)
        return namespace

    # -- containers

    async def create_container(self, call: Call) -> Container:
        """``AlreadyExists``; its namespace comes into being with it."""
        container = self.propose(call.namespace, call.params)
        self._catalog.reserve_new(container.namespace, container.id)
        try:
            await self.commit(container, *call.reply.kept(container))
        finally:
            self._catalog.release(container.namespace, container.id)
        return container

    async def get_container(self, call: Call) -> Container:
        """``NotFound``."""
        return self._catalog.container(call.namespace, call.params.id)

    async def list_containers(self, call: Call) -> Mapping[str, Any]:
        """Those that match any of the filters."""
        matches = compile_filters(call.params.filters or ())
        found = (dump(container) for container in self._catalog.containers(call.namespace))
        return {"containers": [container for container in found if matches(container)]}

    async def update_container(self, call: Call) -> Container:
        """What is given replaces the old; a task that exists keeps what it was made from."""
        params = call.params
        given = {name: getattr(params, name) for name in ("labels", "spec", "restart")}
        changed = {name: value for name, value in given.items() if value is not None}
        if "spec" in changed:
            check_spec(changed["spec"])
        if "labels" in changed:
            check_labels(changed["labels"])
        check_restart(params.restart)
        old = self._catalog.reserve(call.namespace, params.id)
        try:
            new = dataclasses.replace(old, **changed, updated_at=time.time_ns())
            changes = (PutContainer(new), *call.reply.kept(new))
            await self._exchange.publish(container_event("update", new), changes=changes)
            self._catalog.put_container(new)
        finally:
            self._catalog.release(call.namespace, params.id)
        return new

    async def delete_container(self, call: Call) -> Mapping[str, Any]:
        """Only without a task."""
        await self.drop(call.namespace, call.params.id, *call.reply.kept({}))
        return {}

    async def drop(self, namespace: str, container_id: str, *more: Change) -> None:
        """Remove a container that has no task, and commit ``more`` with that."""
        container = self._catalog.reserve(namespace, container_id)
        try:
            if self._tasks.has(namespace, container_id):
                raise FailedPrecondition(f"the container {container_id} has a task; delete it first")
            changes = (DropContainer(namespace, container_id), *more)
            await self._exchange.publish(container_event("delete", container), changes=changes)
            self._catalog.drop_container(namespace, container_id)
        finally:
            self._catalog.release(namespace, container_id)

    # -- shared with tasks.run

    def propose(self, namespace: str, params: ContainerCreate | TaskRun) -> Container:
        """The container that these params ask for, checked."""
        check_container(params)
        now = time.time_ns()
        return Container(
            id=params.id,
            namespace=namespace,
            spec=params.spec,
            rootfs=params.rootfs,
            runtime=params.runtime,
            stdio=params.stdio,
            labels=dict(params.labels or {}),
            restart=params.restart,
            stop=params.stop,
            timeout=params.timeout,
            health=params.health,
            created_at=now,
            updated_at=now,
        )

    async def commit(self, container: Container, *more: Change) -> None:
        """Make a reserved container durable, with its namespace where that is new, and ``more`` as one."""
        events: tuple[NewEvent, ...] = (container_event("create", container),)
        changes: tuple[Change, ...] = (PutContainer(container), *more)
        namespace = Namespace(container.namespace)
        is_new = not self._catalog.has_namespace(namespace.name)
        if is_new:
            self._catalog.put_namespace(namespace)
            events = (_namespace_event("create", namespace.name, namespace.labels), *events)
            changes = (PutNamespace(namespace), *changes)
        try:
            await self._exchange.publish(*events, changes=changes)
        except BaseException:
            if is_new:
                self._catalog.drop_namespace(namespace.name)
            raise
        self._catalog.put_container(container)


def container_event(verb: str, container: Container) -> NewEvent:
    """ContainerCreate, ContainerUpdate, ContainerDelete."""
    body: dict[str, Any] = {"id": container.id}
    if verb != "delete":
        body |= {"runtime": dump(container.runtime), "labels": dict(container.labels)}
    return NewEvent(container.namespace, f"/containers/{verb}", f"Container{verb.capitalize()}", body, time.time_ns())


def _namespace_event(verb: str, name: str, labels: Mapping[str, str] | None) -> NewEvent:
    body = {"name": name} if labels is None else {"name": name, "labels": dict(labels)}
    return NewEvent(name, f"/namespaces/{verb}", f"Namespace{verb.capitalize()}", body, time.time_ns())
