"""The checkers of histories, against each other, against known faults, and at speed."""

import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from linearizable import Call, History, Kind, explained, faults, moved

SUBMIT, LOCAL, AT_LEAST, LINEARIZABLE = Kind


@st.composite
def histories(draw: st.DrawFn) -> list[Call]:
    """Any small history: a few clients, one call at a time each, answers that may be true."""
    clocks = [0, 0, 0]
    found = []
    for _ in range(draw(st.integers(0, 7))):
        client = draw(st.integers(0, 2))
        begun = clocks[client] + draw(st.integers(1, 4))
        ended = clocks[client] = begun + draw(st.integers(0, 4))
        kind = draw(st.sampled_from(Kind))
        open_ = kind is SUBMIT and draw(st.integers(0, 3)) == 0
        value = None if open_ else draw(st.integers(0, 3))
        asked = draw(st.integers(0, 2)) if kind is AT_LEAST else 0
        found.append(Call(client, kind, begun, None if open_ else ended, value, asked))
    return found


def true_history(seed: int, calls: int, clients: int = 4) -> list[Call]:
    """What a real log could have answered: each call takes place somewhere between its times."""
    chance = random.Random(seed)
    clocks = [0] * clients
    begun_ended = []
    for _ in range(calls):
        client = chance.randrange(clients)
        begun = clocks[client] + chance.randint(1, 20)
        ended = clocks[client] = begun + chance.randint(2, 40)
        kind = chance.choice(list(Kind))
        begun_ended.append((chance.uniform(begun, ended), client, kind, begun, ended))
    size = 0
    seen = [0] * clients
    found = []
    for _, client, kind, begun, ended in sorted(begun_ended):
        if kind is SUBMIT:
            lost = chance.random() < 0.1
            happened = not lost or chance.random() < 0.5
            value = None if lost else size
            found.append(Call(client, kind, begun, None if lost else ended, value))
            size += happened
            seen[client] = seen[client] if lost else size
        else:
            least = size if kind is LINEARIZABLE else seen[client]
            seen[client] = value = chance.randint(least, size)
            asked = chance.randint(0, value) if kind is AT_LEAST else 0
            found.append(Call(client, kind, begun, ended, value, asked))
    return found


@settings(max_examples=300)
@given(histories())
def test_both_checkers_say_the_same_of_any_small_history(history: list[Call]) -> None:
    assert (faults(history) == []) == explained(history)


def test_both_accept_what_a_log_answered_and_agree_on_every_change_of_it() -> None:
    refused = 0
    for seed in range(150):
        history = true_history(seed, calls=9)
        assert faults(history) == []
        assert explained(history)
        for position, call in enumerate(history):
            for by in (-1, 1):
                if call.value is not None and call.value + by >= 0:
                    changed = moved(history, position, by)
                    assert (faults(changed) == []) == explained(changed)
                    refused += not explained(changed)
    assert refused > 1_000


def refused(history: History) -> bool:
    assert (faults(history) == []) == explained(history)
    return not explained(history)


def test_each_rule_refuses_its_own_fault() -> None:
    first = Call(0, SUBMIT, 1, 2, 0)
    second = Call(1, SUBMIT, 3, 4, 1)
    assert not refused([first, second])
    assert refused([first, Call(1, SUBMIT, 1, 2, 0)]), "one index twice"
    assert refused([Call(0, SUBMIT, 1, 2, 1), Call(1, SUBMIT, 3, 4, 0)]), "order of time"
    assert not refused([Call(0, SUBMIT, 1, 3, 1), Call(1, SUBMIT, 2, 4, 0)]), "at the same time"
    assert refused([first, Call(1, LINEARIZABLE, 3, 4, 0)]), "a stale linearizable read"
    assert not refused([first, Call(1, LOCAL, 3, 4, 0)]), "a local read may be behind"
    assert refused([first, Call(0, LOCAL, 3, 4, 0)]), "but not behind its own client's entry"
    assert refused([first, second, Call(2, LOCAL, 5, 6, 2), Call(2, LOCAL, 7, 8, 1)]), "shrinks"
    assert refused([Call(1, LOCAL, 1, 2, 1), Call(0, SUBMIT, 3, 4, 0)]), "from the future"
    assert refused([first, Call(1, LOCAL, 2, 4, 1), Call(2, LINEARIZABLE, 5, 6, 0)]), "told"
    assert refused([first, Call(1, AT_LEAST, 3, 4, 0, asked=1)]), "less than asked"
    assert refused([Call(0, SUBMIT, 1, 2, 1)]), "an entry from nowhere"
    assert not refused([Call(1, SUBMIT, 1, None, None), Call(0, SUBMIT, 1, 2, 1)]), "unanswered"
    assert refused([Call(0, SUBMIT, 1, 2, 1), Call(1, SUBMIT, 3, None, None)]), "too late"


def test_a_history_of_fifty_thousand_calls_is_decided_at_once() -> None:
    history = true_history(1, calls=50_000, clients=12)
    begun = time.process_time()
    assert faults(history) == []
    last = max(i for i, call in enumerate(history) if call.kind is LINEARIZABLE)
    assert len(faults(moved(history, last, -1_000))) >= 1
    assert time.process_time() - begun < 20
