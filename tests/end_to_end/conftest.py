"""Fixtures of tests that run real nodes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from engine import Engine, Missing
from lacking import lacks
from network import Network
from other_engines import Podman, Rootless

T = TypeVar("T")


@pytest.fixture
def networks(tmp_path: Path) -> Iterator[Callable[..., Network]]:
    """Makes networks of real node processes: `networks(members=3)`. They end with the test."""
    with ExitStack() as stack:

        def make(members: int = 3, **more: Any) -> Network:
            folder = tmp_path / f"network-{members}"
            folder.mkdir()
            return stack.enter_context(Network(folder, members, **more))

        yield make


@contextmanager
def kept(make: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
    """What `make` makes, for as long as it is used."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(make())
        except Missing as missing:
            lacks(f"no container engine: {missing}")
        yield made


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A private container engine with the images that tests need."""

    @contextmanager
    def make() -> Iterator[Engine]:
        with Engine() as made:
            made.start()
            made.make_images()
            yield made

    with kept(make) as made:
        made.clear()
        yield made
        made.clear()


@pytest.fixture(scope="module")
def podman(engine: Engine) -> Iterator[Podman]:
    """Podman, as an engine that Docker's clients may use."""
    engine.start_if_ended()
    with kept(lambda: Podman(engine)) as made:
        yield made


@pytest.fixture(scope="module")
def rootless(engine: Engine) -> Iterator[Rootless]:
    """Docker, run by a user who is not root."""
    engine.start_if_ended()
    with kept(lambda: Rootless(engine)) as made:
        yield made
