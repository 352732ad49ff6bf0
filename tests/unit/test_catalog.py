from __future__ import annotations

import dataclasses

import pytest

from actors.catalog import Catalog
from actors.records import Container, Namespace
from shimproc.errors import AlreadyExists, FailedPrecondition, NotFound


def container(name: str = "web", namespace: str = "space") -> Container:
    return Container(name, namespace, {"ociVersion": "1.0.2"})


@pytest.fixture
def catalog() -> Catalog:
    namespaces = [Namespace("space"), Namespace("empty"), Namespace("other", {"a": "b"})]
    return Catalog(namespaces, [container(), container("db"), container("web", "other")])


def ids(catalog: Catalog, namespace: str) -> list[str]:
    return sorted(one.id for one in catalog.containers(namespace))


def test_a_new_catalog_has_nothing() -> None:
    nothing = Catalog([], [])
    assert nothing.namespaces() == []
    assert ids(nothing, "space") == []
    assert nothing.is_empty("space")


def test_namespaces_are_listed_by_name(catalog: Catalog) -> None:
    assert [namespace.name for namespace in catalog.namespaces()] == ["empty", "other", "space"]


def test_a_namespace_is_found_by_its_name(catalog: Catalog) -> None:
    assert catalog.namespace("other") == Namespace("other", {"a": "b"})
    assert catalog.has_namespace("other")
    assert not catalog.has_namespace("Other")
    with pytest.raises(NotFound, match="no namespace Other"):
        catalog.namespace("Other")


def test_a_namespace_is_added_replaced_and_dropped(catalog: Catalog) -> None:
    catalog.put_namespace(Namespace("new"))
    catalog.put_namespace(Namespace("new", {"k": "v"}))
    assert catalog.namespace("new").labels == {"k": "v"}
    catalog.drop_namespace("new")
    assert not catalog.has_namespace("new")
    catalog.drop_namespace("new")


def test_containers_of_one_id_in_two_namespaces_are_two(catalog: Catalog) -> None:
    assert catalog.container("space", "web").namespace == "space"
    assert catalog.container("other", "web").namespace == "other"
    assert ids(catalog, "space") == ["db", "web"]
    catalog.drop_container("other", "web")
    assert catalog.find("other", "web") is None
    assert catalog.find("space", "web") == container()


def test_a_container_that_is_not_there_is_not_found(catalog: Catalog) -> None:
    assert catalog.find("empty", "web") is None
    with pytest.raises(NotFound, match="no container web in namespace empty"):
        catalog.container("empty", "web")
    with pytest.raises(NotFound, match="no container web in namespace empty"):
        catalog.reserve("empty", "web")
    catalog.drop_container("empty", "web")


def test_a_container_is_replaced_as_a_whole(catalog: Catalog) -> None:
    changed = dataclasses.replace(container(), labels={"new": "yes"})
    catalog.put_container(changed)
    assert catalog.container("space", "web") == changed
    assert ids(catalog, "space") == ["db", "web"]


def test_an_id_that_is_taken_cannot_be_made_again(catalog: Catalog) -> None:
    with pytest.raises(AlreadyExists, match="the container web exists already in namespace space"):
        catalog.reserve_new("space", "web")
    assert catalog.container("space", "web") == container()


def test_of_two_who_make_one_id_the_first_wins(catalog: Catalog) -> None:
    catalog.reserve_new("space", "new")
    with pytest.raises(AlreadyExists):
        catalog.reserve_new("space", "new")
    catalog.reserve_new("other", "new")
    catalog.put_container(container("new"))
    catalog.release("space", "new")
    assert catalog.container("space", "new") == container("new")


def test_an_id_whose_making_failed_is_free_again(catalog: Catalog) -> None:
    catalog.reserve_new("space", "new")
    catalog.release("space", "new")
    catalog.reserve_new("space", "new")


def test_a_container_on_its_way_is_not_there_yet(catalog: Catalog) -> None:
    catalog.reserve_new("space", "new")
    assert ids(catalog, "space") == ["db", "web"]
    with pytest.raises(NotFound):
        catalog.container("space", "new")
    with pytest.raises(NotFound):
        catalog.reserve("space", "new")


def test_of_two_who_change_a_container_the_first_goes_on(catalog: Catalog) -> None:
    assert catalog.reserve("space", "web") == container()
    with pytest.raises(FailedPrecondition, match="the container web is being changed by another request"):
        catalog.reserve("space", "web")
    assert catalog.reserve("other", "web") == container("web", "other")
    catalog.release("space", "web")
    assert catalog.reserve("space", "web") == container()


def test_a_container_that_is_being_changed_can_neither_be_used_nor_made(catalog: Catalog) -> None:
    catalog.reserve("space", "web")
    with pytest.raises(NotFound):
        catalog.container("space", "web")
    with pytest.raises(AlreadyExists):
        catalog.reserve_new("space", "web")
    assert catalog.find("space", "web") == container()
    assert ids(catalog, "space") == ["db", "web"]


def test_a_container_that_was_removed_leaves_its_id_free(catalog: Catalog) -> None:
    catalog.reserve("space", "web")
    catalog.drop_container("space", "web")
    with pytest.raises(AlreadyExists):
        catalog.reserve_new("space", "web")
    catalog.release("space", "web")
    catalog.reserve_new("space", "web")


def test_a_release_of_what_was_not_reserved_does_nothing(catalog: Catalog) -> None:
    catalog.release("space", "web")
    assert catalog.container("space", "web") == container()


def test_a_namespace_is_empty_without_containers_there_or_on_their_way(catalog: Catalog) -> None:
    assert catalog.is_empty("empty")
    assert not catalog.is_empty("other")
    catalog.reserve_new("empty", "new")
    assert not catalog.is_empty("empty")
    catalog.release("empty", "new")
    assert catalog.is_empty("empty")


def test_a_namespace_is_not_empty_until_the_removal_of_its_last_container_is_over(catalog: Catalog) -> None:
    catalog.reserve("other", "web")
    assert not catalog.is_empty("other")
    catalog.drop_container("other", "web")
    assert not catalog.is_empty("other")
    catalog.release("other", "web")
    assert catalog.is_empty("other")
