"""Fixtures of tests that run real nodes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
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
