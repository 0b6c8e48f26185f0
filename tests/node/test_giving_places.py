"""Places of those who take a snapshot: nobody holds one, or one in the queue, by silence."""

import random

import pytest

from tilth_node.giving_places import IDLE_MS, TURN_MS, WAIT_MS, GivingPlaces


@pytest.fixture
def places():
    return GivingPlaces(2)


def test_so_many_at_once_and_then_who_asked_first(places):
    a, b = places.take("a", 0), places.take("b", 0)
    assert a
    assert b
    assert places.take("c", 1) is None
    assert places.take("d", 2) is None
    places.leave(a, 3)
    assert places.take("c", 4) is None  # a may go on with another answer
    assert places.take("d", IDLE_MS + 2) is None  # c asked first
    assert places.goes_on(b, IDLE_MS + 3)
    assert places.take("c", IDLE_MS + 4)
    assert places.take("d", IDLE_MS + 5) is None


def test_who_takes_nothing_gives_way_to_who_waits(places):
    a, b = places.take("a", 0), places.take("b", 0)
    assert places.goes_on(b, IDLE_MS - 1)
    assert places.take("c", IDLE_MS - 1) is None
    assert places.take("c", IDLE_MS)
    assert not places.goes_on(a, IDLE_MS)
    assert places.goes_on(b, IDLE_MS)


def test_who_takes_little_gives_way_after_its_turn_and_comes_behind_who_waits(places):
    a, b = places.take("a", 0), places.take("b", 1)
    for now in range(0, TURN_MS, 1000):
        assert places.goes_on(a, now)
        assert places.goes_on(b, now)
        places.take("c", now)
    assert places.take("c", TURN_MS)
    assert not places.goes_on(a, TURN_MS)
    assert places.take("a", TURN_MS) is None
    assert places.take("b", TURN_MS) is not None  # its turn lasts a little longer
    assert places.take("a", TURN_MS + 1) is not None  # b's is over, and nobody is before a
    assert places.take("b", TURN_MS + 2) is None


def test_nobody_gives_way_where_nobody_waits(places):
    a = places.take("a", 0)
    places.take("b", 0)
    assert places.goes_on(a, 10 * TURN_MS)
    places.leave(a, 10 * TURN_MS)
    assert places.take("a", 10 * TURN_MS + 1)


def test_who_waits_and_asks_no_more_holds_nobody_up(places):
    a, b = places.take("a", 0), places.take("b", 0)
    assert places.take("silent", 1) is None
    for now in range(1000, WAIT_MS + 2000, 1000):
        assert places.goes_on(a, now)
        assert places.goes_on(b, now)
        assert places.take("c", now) is None
    places.leave(a, WAIT_MS + 2000)
    assert places.goes_on(b, WAIT_MS + IDLE_MS + 2000)
    assert places.take("c", WAIT_MS + IDLE_MS + 2000)


def test_a_second_ask_of_one_takes_the_place_of_its_first(places):
    first = places.take("a", 0)
    second = places.take("a", 1)
    assert places.take("b", 2)
    assert not places.goes_on(first, 3)
    assert places.goes_on(second, 3)
    places.leave(first, 4)  # which does not matter any more
    assert places.goes_on(second, 5)


@pytest.mark.parametrize("seed", range(20))
def test_never_more_than_so_many_and_everybody_who_asks_again_and_again_comes_in(seed):
    chance = random.Random(seed)
    places, held, last = GivingPlaces(2), {}, {}
    for now in range(0, 40 * TURN_MS, 2500):
        names = list("abcde")
        chance.shuffle(names)
        for name in names:
            place = held.get(name)
            if place is None or not places.goes_on(place, now):  # liars take a place for ever
                held[name] = places.take(name, now)
            if held[name] is not None:
                last[name] = now
            assert len(places._places) <= 2
        assert all(now - last.get(name, 0) < 6 * TURN_MS for name in names)
