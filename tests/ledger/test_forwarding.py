"""Certificates of finality: told to whoever may lack them, not to whoever must have them."""

from stage import Stage

from tilth_ledger.blocks import FINALIZE, Certificate
from tilth_ledger.messages import Certificates


def told(stage: Stage, sender: int, member: int) -> list[Certificate]:
    """The certificates of finality that one has told another."""
    messages = [m for a, b, m in stage.sent if (a, b) == (sender, member)]
    lists = [m.certificates for m in messages if isinstance(m, Certificates)]
    return [each for some in lists for each in some if each.kind is FINALIZE]


def test_two_votes_are_a_certificate_that_nobody_needs_to_be_told_of() -> None:
    stage = Stage(3)
    stage.submit(1, "a")
    stage.settle()
    stage.pass_ms(1_000)

    assert [stage.texts(member) for member in range(3)] == [["a"]] * 3
    assert not [each for a in range(3) for b in range(3) for each in told(stage, a, b)]


def test_whoever_hears_one_of_two_votes_adds_its_own_and_loses_no_time() -> None:
    stage = Stage(3)
    stage.submit(1, "a")
    stage.cut(1, 2)  # the leader's block and votes do not come, and nobody knows
    stage.settle()

    assert (stage.texts(2), stage.now) == (["a"], 0)


def test_where_more_than_two_votes_are_needed_everybody_is_told_at_once() -> None:
    stage = Stage(4)
    stage.submit(1, "a")
    stage.settle()

    assert stage.now == 0
    assert told(stage, 1, 2)


def test_an_idle_network_owes_nothing() -> None:
    stage = Stage(3)
    stage.submit(1, "a")
    stage.settle()
    stage.pass_ms(1_000)
    said = len(stage.sent)

    stage.pass_ms(10_000)
    assert len(stage.sent) == said
