"""How fresh a read is, is named: local, at least a size, linearizable."""

import pytest

from tilth.errors import InvalidInput
from tilth.rows import PAGE, NodeRows


class Node:
    """A source of rows that notes how it was asked."""

    def __init__(self):
        self.asked = []

    def get_row(self, key, at_least=0, *, linearizable=False):
        self.asked.append((at_least, linearizable))

    def scan_rows(self, prefix, after, limit, at_least=0, *, linearizable=False):
        self.asked.append((at_least, linearizable))
        start = int(after or 0)
        return [(f"{start + i + 1:06}", {}) for i in range(limit)], start < PAGE


@pytest.mark.parametrize(
    ("read", "asked"),
    [("local", (0, False)), ("at-least", (12, False)), ("linearizable", (12, True))],
)
def test_a_row_is_asked_for_as_fresh_as_was_named(read, asked):
    node = Node()
    rows = NodeRows(node, read)
    rows.at_least(12)
    rows.at_least(5)
    rows.get("plan/a")
    assert node.asked == [asked]


def test_the_first_page_of_a_scan_waits_for_the_barrier_and_the_others_follow_it():
    node = Node()
    list(NodeRows(node, "linearizable").scan("plan/"))
    assert node.asked == [(0, True), (0, False)]


def test_another_word_is_refused():
    with pytest.raises(InvalidInput, match="linearizable"):
        NodeRows(Node(), "sometimes")


def test_who_reads_beside_another_reads_no_older_than_what_that_one_was_told():
    node = Node()
    mine = NodeRows(node)
    beside = NodeRows(node, told=mine.told)
    mine.at_least(12)
    beside.get("plan/a")
    beside.at_least(15)
    mine.get("plan/a")
    NodeRows(node).get("plan/a")
    assert node.asked == [(12, False), (15, False), (0, False)]


def test_what_is_no_row_is_asked_for_when_the_node_holds_what_was_told():
    node, other = Node(), Node()
    mine = NodeRows(node)
    beside = NodeRows(other, told=mine.told)
    mine.holds(12)
    mine.reach()  # it said so itself
    beside.reach()
    beside.reach()
    assert (node.asked, other.asked) == ([], [(12, False)])
    mine.at_least(15)
    mine.reach()
    assert node.asked == [(15, False)]
    NodeRows(node, "local", mine.told).reach()
    assert node.asked == [(15, False)]
