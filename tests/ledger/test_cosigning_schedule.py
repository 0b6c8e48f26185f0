"""Which heads a member owes its cosignature: final ones, in order, each once; none when idle."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.blocks import Header
from tilth_ledger.cosigning import Head, Schedule, is_agreed

FIRST = Header(*(bytes(32), 0, 1, 1, bytes(32), 0, bytes(32)), *(0, 0, bytes(32), bytes(32), 1, 0))


def headers(*counts):
    """Headers of consecutive blocks with so many leaves."""
    size = 0
    for count in counts:
        size += count
        yield replace(FIRST, leaf_count=count, size=size, root=size.to_bytes(32))


def test_a_block_that_crosses_a_multiple_of_256_is_agreed():
    found = [h.size for h in headers(255, 1, 1, 254, 2, 600, 0) if is_agreed(h)]

    assert found == [256, 513, 1113]


def test_the_tip_is_due_when_it_rests_and_once_only():
    schedule = Schedule(0)
    for header in headers(3, 4):
        schedule.final(header)
    assert schedule.take() == []
    assert not schedule.quiet

    schedule.rest()
    schedule.rest()
    assert schedule.take() == [Head(7, (7).to_bytes(32), 0)]
    assert schedule.take() == []
    schedule.newest = 7
    schedule.rest()
    assert schedule.take() == []
    assert schedule.quiet


def test_an_epochs_end_is_due_at_once():
    schedule = Schedule(0)
    (header,) = headers(3)
    schedule.final(header, ends_epoch=True)

    assert [head.size for head in schedule.take()] == [3]


def test_nothing_is_due_before_anything_is_final():
    schedule = Schedule(0)
    schedule.rest()

    assert schedule.take() == []
    assert schedule.quiet


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=12),
    st.lists(st.sampled_from(["final", "rest", "want", "take"]), max_size=60),
    st.data(),
)
def test_sizes_grow_whatever_happens_and_only_final_heads_are_due(counts, events, data):
    schedule, coming, final, taken = Schedule(0), list(headers(*counts)), [], [0]
    for event in events:
        if event == "final" and coming:
            final.append(coming.pop(0))
            schedule.final(final[-1])
        elif event == "rest":
            schedule.rest()
        elif event == "want" and final:
            schedule.want(Head.of(data.draw(st.sampled_from(final))))
        elif event == "take":
            for head in schedule.take():
                assert head in [Head.of(header) for header in final]
                assert head.size > taken[-1]
                taken.append(head.size)
                schedule.newest = head.size
