"""The state digest depends on the set of rows and on nothing else."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.errors import InvalidInput
from tilth_ledger.lthash import LANES, STATE_BYTES, LtHash

tables = st.dictionaries(st.text(max_size=8), st.binary(max_size=8), max_size=8)


def sum_of(rows):
    total = LtHash()
    for key, value in rows:
        total = total.add(key, value)
    return total


def lane_by_lane(rows):
    """The definition, without tricks."""
    lanes = [0] * LANES
    for key, value in rows:
        name = key.encode()
        row = len(name).to_bytes(4) + name + value
        expanded = hashlib.shake_128(row).digest(STATE_BYTES)
        for i in range(LANES):
            lanes[i] = (lanes[i] + int.from_bytes(expanded[2 * i : 2 * i + 2])) % 2**16
    return b"".join(lane.to_bytes(2) for lane in lanes)


def test_it_is_the_lane_wise_sum():
    rows = [(f"row/{i}", b"value %d" % i) for i in range(50)]

    assert sum_of(rows).state == lane_by_lane(rows)


def test_the_empty_sum_and_one_row_are_pinned():
    assert LtHash().digest().hex() == hashlib.sha256(b"tilth/state/1\0" + bytes(2048)).hexdigest()
    assert sum_of([("a", b"1")]).digest() != LtHash().digest()


@given(tables, st.randoms(use_true_random=False))
def test_order_does_not_matter(table, random):
    shuffled = list(table.items())
    random.shuffle(shuffled)

    assert sum_of(shuffled) == sum_of(table.items())


@given(tables, tables)
def test_removing_undoes_adding(table, other):
    total = sum_of(table.items())
    there = sum_of([*table.items(), *other.items()])
    for key, value in other.items():
        there = there.remove(key, value)

    assert there.digest() == total.digest()


@given(tables, tables)
def test_different_rows_have_different_digests(table, other):
    assert (sum_of(table.items()).digest() == sum_of(other.items()).digest()) == (table == other)


def test_key_and_value_do_not_run_into_each_other():
    assert sum_of([("ab", b"c")]) != sum_of([("a", b"bc")])


def test_it_goes_on_from_its_stored_state():
    total = sum_of([("a", b"1"), ("b", b"2")])

    assert LtHash.from_state(total.state) == total


def test_a_state_of_another_length_is_refused():
    with pytest.raises(InvalidInput):
        LtHash.from_state(bytes(STATE_BYTES - 1))
