"""Words of others meet a terminal without what it would act on."""

import argparse
import io
import json

import pytest

from tilth.cli.options import show
from tilth.progress import Line, Lines
from tilth.terminal import harmless

HOSTILE = "a\x1b]0;owned\x07b\x9b2Jc\u202ed\x7f\x00"
HARMLESS = "a?]0;owned?b?2Jc?d??"


@pytest.mark.parametrize(
    ("text", "shown"),
    [(HOSTILE, HARMLESS), ("ü\t1\r\n2\r3\n", "ü\t1\n2\n3\n"), ("\udc80", "?")],
)
def test_a_terminal_gets_nothing_to_act_on(text, shown):
    assert harmless(text) == shown


def test_commands_show_harmless_text_and_json_holds_what_was_written(capsys):
    show(argparse.Namespace(json=False), {}, HOSTILE)
    assert capsys.readouterr().out == HARMLESS + "\n"
    show(argparse.Namespace(json=True), {"log": HOSTILE}, "")
    out = capsys.readouterr().out
    assert harmless(out) == out
    assert json.loads(out) == {"log": HOSTILE}


@pytest.mark.parametrize("kind", [Line, Lines])
def test_progress_is_harmless_too(kind):
    stream = io.StringIO()
    kind(stream).update(1, 2, HOSTILE)
    kind(stream).say(HOSTILE)
    assert "\x1b]" not in stream.getvalue()
    assert HARMLESS in stream.getvalue()
