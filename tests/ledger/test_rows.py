"""Rows and overlays behave as one sorted table."""

from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger import canonical
from tilth_ledger.rows import READ_BYTES, MemoryRows, Overlay, parse_row, read_row

keys = st.text(st.sampled_from("ab/\u20ac\ufb33\U0001f600"), max_size=3)
changes = st.lists(st.tuples(keys, st.none() | st.integers(0, 9)), max_size=12)


def stored(table):
    return MemoryRows({key: canonical.dumps({"v": value}) for key, value in table.items()})


def apply(overlay, table, change):
    for key, value in change:
        if value is None:
            overlay.delete(key)
            table.pop(key, None)
        else:
            overlay.put(key, {"v": value})
            table[key] = value


@given(
    st.dictionaries(keys, st.integers(0, 9)),
    changes,
    changes,
    keys,
    keys,
    st.none() | st.integers(0, 3),
)
def test_overlays_read_as_one_table_and_merge_into_it(table, first, second, prefix, after, limit):
    bottom = stored(table)
    lower = Overlay(bottom)
    upper = Overlay(lower)
    apply(lower, table, first)
    apply(upper, table, second)
    expected = [
        (key, {"v": table[key]})
        for key in sorted(table, key=lambda key: key.encode())
        if key.startswith(prefix) and key > after
    ][:limit]

    assert list(upper.scan(prefix, after, limit)) == expected
    assert {key: upper.get(key) for key in table} == {k: {"v": v} for k, v in table.items()}

    bottom.apply(lower.changes)
    upper.rebase(bottom)
    assert list(upper.scan(prefix, after, limit)) == expected

    bottom.apply(upper.changes)
    assert list(bottom.scan(prefix, after, limit)) == expected


@given(st.dictionaries(keys, st.integers(0, 9)), changes, changes, changes)
def test_what_was_changed_since_the_mark_is_undone_as_if_it_had_never_been(
    table, first, second, third
):
    rows, plain = Overlay(stored(table)), Overlay(stored(table))
    for each in (rows, plain):
        apply(each, {}, first)
    rows.mark()
    apply(rows, {}, second)
    rows.undo()

    assert rows.changes == plain.changes
    assert list(rows.scan("")) == list(plain.scan(""))

    for each in (rows, plain):
        each.mark()
        apply(each, {}, third)
    assert list(rows.scan("")) == list(plain.scan(""))


def test_what_stood_before_the_mark_is_not_undone():
    rows = Overlay(MemoryRows())
    rows.put("a", {"v": 1})
    rows.mark()
    rows.put("a", {"v": 2})
    rows.undo()
    rows.undo()

    assert rows.get("a") == {"v": 1}


def test_a_row_read_for_reading_is_the_one_that_its_bytes_say():
    large = canonical.dumps({"v": "x" * 2 * READ_BYTES})

    assert read_row(b'{"v":1}') == {"v": 1}
    assert read_row(b'{"v":1}') is read_row(b'{"v":1}')
    assert read_row(large) == parse_row(large)
    assert read_row(large) is not read_row(large)


def test_a_missing_row_is_none():
    assert Overlay(MemoryRows()).get("a") is None


def test_changing_what_was_read_changes_no_row():
    rows = Overlay(stored({"a": 1}))
    rows.get("a")["v"] = 2
    rows.put("b", {"v": [1]})
    rows.get("b")["v"].append(2)

    assert rows.get("a") == {"v": 1}
    assert rows.get("b") == {"v": [1]}


def test_changing_what_was_put_changes_no_row():
    value = {"v": 1}
    rows = Overlay(MemoryRows())
    rows.put("a", value)
    value["v"] = 2

    assert rows.get("a") == {"v": 1}


def test_an_overlay_lists_its_changes_as_canonical_bytes_and_leaves_the_parent_alone():
    parent = stored({"a": 1, "b": 1})
    rows = Overlay(parent)
    rows.put("c", {"y": 1, "x": "é"})
    rows.delete("a")

    assert rows.changes == {"c": '{"x":"é","y":1}'.encode(), "a": None}
    assert [key for key, _ in parent.scan("")] == ["a", "b"]
