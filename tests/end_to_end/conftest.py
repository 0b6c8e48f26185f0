"""Fixtures of tests that run real nodes."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from engine import Engine, Missing
from network import Network


@pytest.fixture
def networks(tmp_path: Path) -> Iterator[Callable[..., Network]]:
    """Makes networks of real node processes: `networks(members=3)`. They end with the test."""
    with ExitStack() as stack:

        def make(members: int = 3, **more: Any) -> Network:
            folder = tmp_path / f"network-{members}"
            folder.mkdir()
            return stack.enter_context(Network(folder, members, **more))

        yield make


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A private container engine with the images that tests need; skips where there can be none.

    With TILTH_ENGINE=required a missing engine is a failure."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(Engine())
            made.start()
            made.make_images()
        except Missing as missing:
            if os.environ.get("TILTH_ENGINE") == "required":
                raise
            pytest.skip(f"no container engine: {missing}")
        made.clear()
        yield made
        made.clear()
