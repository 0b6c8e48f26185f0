"""A snapshot after changes of who votes: every epoch is proven by the members of the one before."""

from dataclasses import replace

import pytest
from test_audit_epochs import chain  # noqa: F401
from test_joining import altering, fetch_the_past, founded, joined, restarted, same

from tilth_ledger.snapshots import Offer
from tilth_node import auditing
from tilth_node.scrubbing import scrub

ALL = 10**6


@pytest.fixture
def two(chain, tmp_path):  # noqa: F811
    new, b = founded(chain, tmp_path / "new", 0), founded(chain, tmp_path / "b", ALL)
    new.links = {"b": b}
    yield new, b
    new.store.close()
    b.store.close()


def test_a_newcomer_goes_through_every_epoch_and_audits_clean_later(two, chain):  # noqa: F811
    new, b = two
    assert joined(new, "b")
    restarted(new, chain)
    same(new, b)
    assert new.store.epoch_start() == b.store.epoch_start()
    fetch_the_past(new)
    assert (new.store.history, new.faults) == (None, [])
    assert scrub(new.folder.path).clean
    assert auditing.audit(new.folder.path).clean


def without_an_epoch(number, frame):
    offer = Offer.decode(frame) if number == 0 else None
    cut = offer and replace(offer, milestones=(offer.milestones[0], *offer.milestones[2:]))
    return [cut.encode() if cut else frame]


def with_the_new_members_votes(number, frame):
    if number:
        return [frame]
    offer = Offer.decode(frame)
    first, *rest = offer.milestones
    forged = replace(first, certificate=offer.tip.certificate)
    return [replace(offer, milestones=(forged, *rest)).encode()]


@pytest.mark.parametrize("lie", [without_an_epoch, with_the_new_members_votes])
def test_an_epoch_that_the_old_members_did_not_end_is_refused(two, lie):
    new, b = two
    altering(b, "snapshot", lie)
    assert not joined(new, "b")
    assert [name for name, _ in new.faults] == ["b"]
