"""Givers of a snapshot who harm by what they say of their moment, or by how slowly they give; and
one whose ledger grows meanwhile, which is neither."""

import asyncio
from dataclasses import replace

import pytest
from test_joining import (  # noqa: F401
    FAR,
    altering,
    breaking_off,
    chain,
    founded,
    joined,
    restarted,
    same,
    short,
    sites,
)

from tilth_ledger.errors import Unavailable
from tilth_ledger.snapshot_rows import Part, Place, Taken
from tilth_node import joining
from tilth_node.giving_places import GivingPlaces

AHEAD = (2**60, 2**64 - 1)

pytestmark = pytest.mark.usefixtures("short")  # parts of 7 rows


def far_ahead(size):
    """Parts of a moment that no ledger will ever reach, but for the first one."""

    def lie(number, frame):
        return [replace(Part.decode(frame), size=size).encode() if number > 1 else frame]

    return lie


@pytest.mark.parametrize("size", AHEAD)
def test_after_a_false_moment_another_goes_on_from_the_last_proven_one(sites, size):  # noqa: F811
    new, b, c = sites
    altering(c, "snapshot", far_ahead(size))
    asked, rest = [], []
    breaking_off(c, 4, asked)
    breaking_off(b, 10_000, rest)
    new.joining.told("c", FAR + 1, 0)  # the liar is asked first
    assert joined(new, "b", "c")
    assert len(asked) == 1
    assert rest[0].key  # it need not begin anew
    assert rest[0].size == b.store.size


@pytest.mark.parametrize("size", AHEAD)
def test_a_false_moment_does_not_survive_in_the_draft(sites, chain, size):  # noqa: F811
    new, b, c = sites
    altering(c, "snapshot", far_ahead(size))
    breaking_off(c, 4, [])
    new.joining._next = iter(["c", None]).__next__  # after that it is stopped
    assert not joined(new, "c")
    new.parts(chain.genesis)  # as the process starts again
    del new.links["c"]
    rest = []
    breaking_off(b, 10_000, rest)
    assert joined(new, "b")
    assert rest[0].key
    assert new.faults == []
    restarted(new, chain)
    same(new, b)


def test_who_states_a_moment_that_its_next_offer_does_not_reach_is_counted(sites, chain):  # noqa: F811
    new, b, c = sites
    altering(c, "snapshot", far_ahead(2**60))
    new.joining.told("c", FAR + 1, 0)
    assert joined(new, "b", "c")
    assert new.faults == [("c", "snapshot: parts of a moment to come")]
    restarted(new, chain)
    same(new, b)


def test_a_ledger_that_grows_with_every_part_is_no_lie(chain, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(joining, "ANSWER_PARTS", 4)
    new, b = founded(chain, tmp_path / "new", 0), founded(chain, tmp_path / "b", 20)
    new.links = {"b": b}
    more = iter(list(zip(chain.blocks, chain.states, strict=True))[20:])

    def growing(number, frame):
        for (block, certificate), state in more:
            b.store.apply([(block, state)], certificate)
            break
        return [frame]

    altering(b, "snapshot", growing)
    asked = []
    breaking_off(b, 10_000, asked)
    assert joined(new, "b")
    assert new.faults == []
    assert b.store.tip().header.height == len(chain.blocks)
    assert asked == sorted(asked, key=lambda place: (place.key, place.size))
    assert len(asked) > 3
    restarted(new, chain)
    same(new, b)
    new.store.close()
    b.store.close()


def test_changes_that_fill_more_parts_than_an_answer_has_come_with_one_answer(
    sites,  # noqa: F811
    chain,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(joining, "ANSWER_PARTS", 1)
    b = sites[1]
    keys = [key for key, _ in b.store.rows.scan_bytes("")]
    place = Place(chain.blocks[1][0].header.size, keys[-8])
    *changes, last = b.joining._parts(place)
    assert len(changes) > 3
    assert {(part.size, part.rows) for part in changes} == {(place.size, ())}
    assert (last.size, len(last.rows)) == (b.store.size, 7)


def dribbling(site, monkeypatch, parts):
    """Make a site give so many parts, and then nothing: its time is over at once."""
    monkeypatch.setattr(joining, "PACE_BYTES", 1)
    honest = site.handlers["snapshot"]

    async def dribble(organization, body):
        number = 0
        try:
            async for chunk in honest(organization, body):
                number += 1
                if number > parts:
                    monkeypatch.setattr(joining, "PACE_SECONDS", 0.0)
                yield chunk
                if number > parts:
                    await asyncio.Event().wait()
        finally:
            monkeypatch.setattr(joining, "PACE_SECONDS", 60.0)

    site.handlers["snapshot"] = dribble


def test_one_who_dribbles_is_left_and_another_gives_the_rest(sites, chain, monkeypatch):  # noqa: F811
    new, b, c = sites
    dribbling(c, monkeypatch, 3)
    asked, rest = [], []
    breaking_off(c, 10_000, asked)
    breaking_off(b, 10_000, rest)
    new.joining.told("c", FAR + 1, 0)  # it says that it is the highest
    assert joined(new, "b", "c")
    assert len(asked) == 1
    keys = [key for key, _ in b.store.rows.scan_bytes("")]
    assert rest[0].key == keys[3 * 7 - 1]
    assert new.faults == []  # slow is not false
    restarted(new, chain)
    same(new, b)


def test_a_slow_one_is_asked_again_where_there_is_no_other(sites, chain, monkeypatch):  # noqa: F811
    new, b, c = sites
    del new.links["c"]
    dribbling(b, monkeypatch, 3)
    asked = []
    breaking_off(b, 10_000, asked)
    assert joined(new, "b")
    assert len(asked) > 5  # more than the tries of one that gives nothing
    assert new.faults == []
    restarted(new, chain)
    same(new, c)


def test_what_changes_again_and_again_gives_nobody_more_time(sites, monkeypatch):  # noqa: F811
    monkeypatch.setattr(joining, "PACE_SECONDS", 0.01)
    new, b, _ = sites
    honest = b.handlers["snapshot"]

    async def changing(organization, body):
        first = Part(b.store.size, (), (("a", b"{}"),))
        again = joining.framed(replace(first, changed=(("a", b"{}"),), rows=()).encode())
        async for offer in honest(organization, body):
            yield offer
            break
        if not Place.decode(body).key:
            yield joining.framed(first.encode())
        while True:
            yield again
            await asyncio.sleep(0)

    b.handlers["snapshot"] = changing
    assert not joined(new, "b")
    assert new.held[-1] == ""
    assert new.faults == []


def test_a_place_is_never_said_to_be_later_than_what_was_proven():
    part = Part(9, (), (("a", b"1"),))
    taken = Taken().after(part, {}.get)
    assert taken.within(7).place == Place(7, "a")
    assert taken.within(11) == taken
    assert taken.within(7).sum == taken.sum


def test_one_that_gives_others_is_asked_again_until_it_has_a_place(sites, chain):  # noqa: F811
    new, b, _ = sites
    del new.links["c"]
    new.joining.busy_seconds = 0.0
    honest, asked = b.handlers["snapshot"], []

    async def busy_at_first(organization, body):
        asked.append(organization)
        if len(asked) == 1:  # two others are being given all, and take nothing
            others = [b.joining._places.take(name, joining._now_ms()) for name in ("x", "y")]
            assert all(others)
        if len(asked) == 20:
            b.joining._places = GivingPlaces(1)
        async for chunk in honest(organization, body):
            yield chunk

    b.handlers["snapshot"] = busy_at_first
    assert joined(new, "b")
    assert len(asked) >= 20  # far more than the tries of one that breaks off
    assert new.faults == []
    restarted(new, chain)
    same(new, b)


def test_one_that_is_busy_for_ever_does_not_hold_a_newcomer_up_for_ever(sites, monkeypatch):  # noqa: F811
    monkeypatch.setattr(joining, "BUSY_TRIES", 5)
    new, b, _ = sites
    del new.links["c"]
    new.joining.busy_seconds = 0.0
    asked = []
    breaking_off(b, 10_000, asked)
    b.joining._places = GivingPlaces(0)
    assert not joined(new, "b")
    assert len(asked) == 6
    assert new.held[-1] == ""  # blocks are fetched one by one


def test_another_is_asked_before_one_that_was_busy(sites, chain):  # noqa: F811
    new, b, c = sites
    c.joining._places = GivingPlaces(0)
    asked = []
    breaking_off(c, 10_000, asked)
    assert joined(new, "b", "c")  # as high as each other: c by its name
    assert len(asked) == 1
    restarted(new, chain)
    same(new, b)


def test_who_takes_nothing_loses_its_place_to_who_waits(sites, monkeypatch):  # noqa: F811
    _, b, _ = sites

    async def run():
        first = [b.joining.serve(name, Place().encode()) for name in ("x", "y")]
        for answer in first:
            await anext(answer)  # and takes no more
        waits = b.joining.serve("new", Place().encode())
        with pytest.raises(Unavailable, match="others already"):
            await anext(waits)
        late = joining._now_ms() + 10_000
        monkeypatch.setattr(joining, "_now_ms", lambda: late)
        taken = [chunk async for chunk in b.joining.serve("new", Place().encode())]
        assert len(taken) > 3
        rest = [len([chunk async for chunk in answer]) for answer in first]
        assert min(rest) == 1  # the part that was under way
        assert max(rest) > 3  # one of two gave way: nobody waited for the other's place

    asyncio.run(run())
