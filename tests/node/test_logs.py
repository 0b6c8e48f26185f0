"""The node's log."""

import io
import json
import sys
from collections.abc import Iterator

import pytest
import structlog

from tilth_node import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_an_event_is_one_json_line_with_its_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    logs.configure(level="INFO", lines="json")
    logs.logger("peers").info("connected", peer="hospital-b")
    logs.logger("peers").debug("too small to tell")
    [line] = out.getvalue().splitlines()
    facts = json.loads(line)
    assert (facts["event"], facts["area"], facts["peer"]) == ("connected", "peers", "hospital-b")


def test_a_log_that_nobody_reads_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    logs.configure(level="INFO", lines="text")
    out.close()
    logs.logger("peers").info("connected")
