"""Who stands where in an epoch: organizations are numbered for ever in their names, `m0`, `m1`; a
replica numbers parties by its epoch."""

from __future__ import annotations

from dataclasses import replace

from tilth_ledger.effects import Event, PeerConnected, PeerGone, Received
from tilth_ledger.epochs import Epoch

MOST_EPOCHS = 1_000


class _Places:
    """Who stands where in an epoch's numbering; made once for each epoch of a node."""

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch  # lives as long as its id is a key
        self.numbers = [int(each.organization[1:]) for each in epoch.everyone()]
        self.parties = {number: party for party, number in enumerate(self.numbers)}


_PLACES: dict[int, _Places] = {}


def _places(epoch: Epoch) -> _Places:
    found = _PLACES.get(id(epoch))
    if found is None:
        if len(_PLACES) >= MOST_EPOCHS:
            _PLACES.clear()
        found = _PLACES[id(epoch)] = _Places(epoch)
    return found


def party_of(epoch: Epoch, member: int) -> int | None:
    """The place of `m<member>` in an epoch's numbering."""
    return _places(epoch).parties.get(member)


def number_of(epoch: Epoch, party: int) -> int:
    """The number in an organization's name, which never changes."""
    return _places(epoch).numbers[party]


def renumbered(epoch: Epoch, event: Event) -> Event | None:
    """The event as a replica takes it; None if it is of nobody that it knows."""
    if not isinstance(event, Received | PeerConnected | PeerGone):
        return event
    party = party_of(epoch, event.member)
    if party is None or party == event.member:
        return None if party is None else event
    return replace(event, member=party)


def is_member(epoch: Epoch, member: int) -> bool:
    """Whether `m<member>` votes in an epoch."""
    party = _places(epoch).parties.get(member)
    return party is not None and party < len(epoch.members)
