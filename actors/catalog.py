"""Namespaces and containers as the daemon holds them in memory; the store has the same on disk.

Reads never wait for a disk. What is being made or removed is reserved first, so two requests for one id cannot both win.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from actors.records import Container, Namespace
from shimproc.errors import AlreadyExists, FailedPrecondition, NotFound
from shimproc.flow import Pending

Key = tuple[str, str]


class Catalog:
    """namespace -> Namespace, (namespace, id) -> Container."""

    def __init__(self, namespaces: Iterable[Namespace], containers: Iterable[Container]) -> None:
        self._namespaces = {namespace.name: namespace for namespace in namespaces}
        self._containers = {(container.namespace, container.id): container for container in containers}
        self._reserved: dict[Key, Pending[None]] = {}

    def namespaces(self) -> list[Namespace]:
        """All, by name."""
        return sorted(self._namespaces.values(), key=lambda namespace: namespace.name)

    def namespace(self, name: str) -> Namespace:
        """One; ``NotFound``."""
        if name not in self._namespaces:
            raise NotFound(f"no namespace {name}")
        return self._namespaces[name]

    def has_namespace(self, name: str) -> bool:
        """Is there one of that name?"""
        return name in self._namespaces

    def put_namespace(self, namespace: Namespace) -> None:
        """Add or replace."""
        self._namespaces[namespace.name] = namespace

    def drop_namespace(self, name: str) -> None:
        """Remove, if it is there."""
        self._namespaces.pop(name, None)

    def is_empty(self, namespace: str) -> bool:
        """Has the namespace neither containers nor any on their way?"""
        return not any(key[0] == namespace for key in (*self._containers, *self._reserved))

    def containers(self, namespace: str) -> Iterator[Container]:
        """All of a namespace."""
        return (container for key, container in self._containers.items() if key[0] == namespace)

    def all_containers(self) -> list[Container]:
        """Of every namespace."""
        return list(self._containers.values())

    def container(self, namespace: str, container_id: str) -> Container:
        """One; ``NotFound``, also while it is being removed."""
        key = (namespace, container_id)
        if key not in self._containers or key in self._reserved:
            raise NotFound(f"no container {container_id} in namespace {namespace}")
        return self._containers[key]

    def find(self, namespace: str, container_id: str) -> Container | None:
        """One, or None."""
        return self._containers.get((namespace, container_id))

    def reserve_new(self, namespace: str, container_id: str) -> None:
        """Nobody else may make this id until ``release``. ``AlreadyExists``."""
        key = (namespace, container_id)
        if key in self._containers or key in self._reserved:
            raise AlreadyExists(f"the container {container_id} exists already in namespace {namespace}")
        self._reserved[key] = Pending()

    async def free(self, namespace: str, container_id: str) -> None:
        """Wait until nobody has reserved it."""
        while (reserved := self._reserved.get((namespace, container_id))) is not None:
            await reserved

    def reserve(self, namespace: str, container_id: str) -> Container:
        """Nobody else may use this container until ``release``. ``NotFound``, ``FailedPrecondition``."""
        key = (namespace, container_id)
        container = self._containers.get(key)
        if container is None:
            raise NotFound(f"no container {container_id} in namespace {namespace}")
        if key in self._reserved:
            raise FailedPrecondition(f"the container {container_id} is being changed by another request")
        self._reserved[key] = Pending()
        return container

    def release(self, namespace: str, container_id: str) -> None:
        """The end of a reservation."""
        if (reserved := self._reserved.pop((namespace, container_id), None)) is not None:
            reserved.set(None)

    def put_container(self, container: Container) -> None:
        """Add or replace."""
        self._containers[container.namespace, container.id] = container

    def drop_container(self, namespace: str, container_id: str) -> None:
        """Remove, if it is there."""
        self._containers.pop((namespace, container_id), None)
