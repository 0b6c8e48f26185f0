"""Who waits for an entry hears within two seconds what is missing; who need not wait hears
nothing."""

import threading
import warnings

import pytest

from tilth import Unknown, Unreachable, waiting
from tilth.waiting import Awaited, Patience, Waiting


def peer(name, *, connected=True, member=True):
    return {"organization": name, "member": member, "connected": connected}


def standing(*peers, **facts):
    quiet = {"organization": "a", "votes": True, "quorum": 2, "halted": "", "alarm": ""}
    return {**quiet, "peers": list(peers), **facts}


WELL = standing(peer("b"), peer("c"), peer("d", member=False, connected=False))
ALONE = standing(peer("b", connected=False), peer("c", connected=False))


def never(seconds):
    return False


def words_of(patience, until=None):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        patience.attend(never, until)
    assert all(each.category is Waiting for each in said)
    return [str(each.message) for each in said]


def test_without_a_quorum_the_missing_members_are_named_at_once():
    asked = []

    def done(seconds):
        asked.append(seconds)
        return False

    with pytest.warns(Waiting, match=r"1 of 3 members is here \(b, c away\), 2 must vote"):
        Patience(lambda: ALONE).attend(done)
    assert asked == [waiting.FIRST_SECONDS]
    assert waiting.FIRST_SECONDS < 2


def test_what_comes_of_an_entry_when_one_stops_waiting_is_said():
    [words] = words_of(Patience(lambda: ALONE), until=0.0)
    assert "a keeps the entry" in words
    assert "Ctrl-C ends the waiting only: it may be recorded until 00:00 UTC" in words


def test_of_a_read_no_entry_is_told():
    [words] = words_of(Patience(lambda: ALONE))
    assert words.endswith("Ctrl-C ends the waiting")


def test_what_is_done_in_time_is_not_talked_about():
    Patience(pytest.fail).attend(lambda seconds: True)


def test_with_a_quorum_nothing_is_said_until_it_takes_long():
    moments = iter([False, True])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Patience(lambda: WELL).attend(lambda seconds: next(moments))
    assert words_of(Patience(lambda: WELL)) == [
        "waiting: 3 of 3 members are here, 2 must vote. Ctrl-C ends the waiting"
    ]


def test_a_halted_ledger_and_an_alarm_are_told_in_their_words():
    halted = standing(peer("b"), peer("c"), halted="it has forked: rebase")
    assert "waiting: it has forked: rebase. " in words_of(Patience(lambda: halted))[0]
    alarmed = {**ALONE, "alarm": "the disk"}
    assert "; the disk" in words_of(Patience(lambda: alarmed))[0]


def test_a_node_that_does_not_answer_is_told_so():
    def status():
        raise Unreachable("the node does not answer", remedy="Start it.")

    patience = Patience(status)
    assert words_of(patience)[0].startswith("waiting: the node does not answer.")
    error = Unknown("late")
    assert patience.explained(error) is error


def test_the_same_words_come_once_in_a_while_however_many_wait(monkeypatch):
    patience = Patience(lambda: ALONE)
    assert len(words_of(patience)) == 1
    assert words_of(patience) == []
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.0)
    assert len(words_of(patience)) == 1


def test_a_deadline_without_a_quorum_names_found_expected_and_remedy():
    error = Patience(lambda: ALONE).explained(Unknown("late"))
    assert error.found == "1 of 3 members is here (b, c away)"
    assert error.expected == "2 of 3 members"
    assert "tilth ledger list" in error.remedy


def test_a_deadline_with_a_quorum_is_left_as_it_is():
    error = Unknown("late")
    assert Patience(lambda: WELL).explained(error) is error


def test_a_future_tells_whoever_waits_without_a_time_of_his_own(monkeypatch):
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.0)
    told = threading.Event()

    def status():
        told.set()
        return ALONE

    answer = Awaited(Patience(status), 600)
    with pytest.raises(TimeoutError):
        answer.result(0)
    assert not told.is_set()
    threading.Thread(target=lambda: answer.set_result(told.wait(100))).start()
    with pytest.warns(Waiting, match="a keeps the entry"):
        assert answer.result() is True


def test_a_future_that_ends_without_an_answer_says_who_was_missing(monkeypatch):
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.0)
    answer = Awaited(Patience(lambda: ALONE), 600)
    answer.set_exception(Unknown("late"))
    with pytest.raises(Unknown, match="too few members"):
        answer.result()
