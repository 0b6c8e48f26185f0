"""What people see: text tables and progress lines."""

import io

from tilth.progress import Lines, Silent, bar, reporter
from tilth.tables import table


def test_columns_are_as_wide_as_their_content_and_numbers_stand_right():
    assert table(("name", "score"), [("a", 0.5), ("longer", 10)]) == "\n".join(
        ["name    score", "------  -----", "a         0.5", "longer     10"]
    )


def test_a_table_without_rows_says_so():
    assert table(("name",), []).splitlines()[-1] == "none"


def test_missing_cells_are_blank():
    assert table(("a", "b"), [(None, "x")]).splitlines()[-1] == "   x"


def test_a_bar_fills_from_the_left():
    assert bar(0, 10) == "[" + " " * 24 + "]"
    assert bar(5, 10) == "[" + "#" * 12 + " " * 12 + "]"
    assert bar(0, 0) == "[" + " " * 24 + "]"


def test_where_nothing_can_be_rewritten_there_is_a_line_for_every_fifth():
    out = io.StringIO()
    lines = Lines(out)
    for done in range(101):
        lines.update(done, 100, "training")

    assert len(out.getvalue().splitlines()) == 6


def test_quiet_is_silent():
    out = io.StringIO()
    with reporter(quiet=True, stream=out) as progress:
        progress.update(1, 2, "x")
        progress.say("y")

    assert isinstance(progress, Silent)
    assert out.getvalue() == ""
