"""The pool of leaves that wait: bounded, in order, each once."""

from __future__ import annotations

import pytest
from number_ledger import write_leaf

from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.leaf import ENTRY, Leaf, leaf_id
from tilth_ledger.pool import REMEMBERED_IDS, Pool


def test_leaves_come_out_in_the_order_in_which_they_came() -> None:
    pool = Pool()
    leaves = [write_leaf(text) for text in "dacb"]
    for leaf in leaves:
        assert pool.add(leaf, local=False) == leaf_id(leaf)
    assert pool.candidates((), 10, 10_000) == leaves
    assert pool.candidates((), 2, 10_000) == leaves[:2]
    assert pool.candidates((), 10, 2 * len(leaves[0]) + 8) == leaves[:2]
    assert pool.candidates({leaf_id(leaves[0])}, 2, 10_000) == leaves[1:3]


def test_a_leaf_is_kept_once_whatever_its_signatures() -> None:
    pool = Pool()
    plain = Leaf(ENTRY, b"same")
    signed = Leaf(ENTRY, b"same", ((bytes(32), bytes(64)),))
    assert pool.add(plain.encode(), local=False) is not None
    assert pool.add(signed.encode(), local=True) is None
    assert len(pool) == 1
    assert pool.is_local(plain.id), "its submitter is told when it is refused"


def test_what_was_final_does_not_come_back() -> None:
    pool = Pool()
    leaf = write_leaf("a")
    pool.add(leaf, local=True)
    pool.settle([leaf_id(leaf)])
    assert len(pool) == 0
    assert pool.add(leaf, local=False) is None


def test_a_stalled_leaf_is_no_work_until_it_is_woken() -> None:
    pool = Pool()
    leaf = write_leaf("a")
    pool.add(leaf, local=True)
    pool.stall([leaf_id(leaf)])
    assert not pool.has_work(())
    assert pool.candidates((), 10, 10_000) == []
    assert pool.wake()
    assert pool.has_work(())
    assert not pool.has_work({leaf_id(leaf)})


def test_the_pool_is_bounded_in_leaves_and_in_bytes() -> None:
    few = Pool(most_leaves=2)
    for text in "ab":
        few.add(write_leaf(text), local=True)
    with pytest.raises(Refused, match="too many entries"):
        few.add(write_leaf("c"), local=True)
    small = Pool(most_bytes=100)
    small.add(write_leaf("x" * 60), local=True)
    with pytest.raises(Refused, match="too many entries"):
        small.add(write_leaf("y" * 60), local=True)
    small.drop([leaf_id(write_leaf("x" * 60))])
    assert small.add(write_leaf("y" * 60), local=True) is not None


def test_other_members_fill_half_of_it_at_most() -> None:
    pool = Pool(most_leaves=4)
    for text in "ab":
        pool.add(write_leaf(text), local=False)
    with pytest.raises(Refused):
        pool.add(write_leaf("c"), local=False)
    assert pool.add(write_leaf("d"), local=True) is not None


def test_the_memory_of_final_leaves_is_bounded() -> None:
    pool = Pool()
    pool.settle(f"{number}" for number in range(REMEMBERED_IDS + 10))
    assert len(pool._final) == REMEMBERED_IDS


def test_garbage_is_not_kept() -> None:
    with pytest.raises(InvalidInput):
        Pool().add(b"garbage", local=True)
