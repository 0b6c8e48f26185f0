"""Members and those who only follow: what each side takes from the other.

An organization without a vote keeps the whole ledger all the same. It is told by Status, at every
connection and at every finality, how far the members are; it fetches final blocks and checks them
as a member does that was away (catch_up); it hands its clients' entries to the members.

Invariants:
- A member takes entries, evidence, barriers, Status and requests from a follower, a follower takes
  Status and blocks from members, and followers say nothing to one another, but for one who says
  that it is in a later epoch: it is asked for final blocks if no member has them. All else is a
  counted fault that changes nothing.
- What a follower says or leaves unsaid counts for no quorum, no view and no patience.
- A follower's entries fill a part of the pool only; of its requests for blocks one is answered per
  step (an honest one has hardly ever a second under way, and repeats what was not answered).

Left to others: fetching, checking and serving blocks (catch_up); that a follower signs and
journals nothing (core).
"""

from __future__ import annotations

from collections.abc import Iterable

from tilth_ledger import catch_up
from tilth_ledger.blocks import Certificate
from tilth_ledger.core import Core
from tilth_ledger.errors import InvalidInput
from tilth_ledger.messages import (
    Accusation,
    Barrier,
    Body,
    Certificates,
    Chain,
    FetchBlock,
    FetchChain,
    Gossip,
    Message,
    Status,
)

POOL_SHARE = 4  # followers' entries find room while less than this part of the pool is taken


def connect(core: Core, follower: int) -> None:
    """A follower is there: a member tells it where the ledger stands."""
    if not core.follows:
        core.followers.add(follower)
        catch_up.greet(core, follower)


def push(core: Core) -> None:
    """Tell every follower at once what became final in this step."""
    if core.out.finalized:
        for follower in sorted(core.followers):
            core.send((follower,), catch_up.status(core, follower, asks=False))


def hear(core: Core, sync: catch_up.CatchUp, follower: int, message: Message) -> None:
    """What a follower said to me. Raises `InvalidInput` for what only members may say."""
    if isinstance(message, Chain):
        if sync.asked == follower:
            catch_up.take_chain(core, sync, follower, message)
        else:  # it may have been a member when I asked it, and so may I
            core.ignore(follower, "Chain: not asked for")
        return
    if core.follows:
        raise InvalidInput("followers have nothing to say to one another")
    match message:
        case Gossip(leaves):
            for leaf in leaves:
                if core.pool.add(leaf, local=False, share=POOL_SHARE) is None:
                    core.ignore(follower, "Gossip: known")
        case Status(asks=asks):
            if asks:
                core.send((follower,), catch_up.status(core, follower, asks=False))
        case FetchBlock() | FetchChain() if follower in core.served:
            core.ignore(follower, f"{type(message).__name__}: more than one at once")
        case FetchBlock(block):
            core.served.add(follower)
            catch_up.give_block(core, follower, block)
        case FetchChain(height):
            core.served.add(follower)
            catch_up.give_chain(core, follower, height)
        case Barrier(nonces):
            for nonce in nonces:
                if not core.barriers.add(nonce, follower):
                    core.ignore(follower, "Barrier: known")
        case Accusation(evidence):
            for each in evidence:
                if not core.accuse(each):
                    core.ignore(follower, "Accusation: known")
        case _:
            raise InvalidInput(
                "only members say this", expected="entries, evidence, status or a request"
            )


def compare(core: Core, certificates: Iterable[Certificate]) -> None:
    """A follower needs no certificates by themselves: one may show that the ledger has forked."""
    for certificate in certificates:
        core.table.verify(certificate)
        core.compare(certificate)


def takes_me_for_a_voter(core: Core, party: int, message: Message) -> bool:
    """Whether one says to me, a follower, what voters are told, and honestly may: it is in another
    epoch, behind mine or ahead of it, and what it says does not tell in which."""
    if not core.follows:
        return False
    asks = isinstance(message, Accusation | Barrier | FetchBlock | FetchChain | Gossip)
    return asks or (party >= len(core.epoch.members) and isinstance(message, Status))


def hear_of_another_epoch(core: Core, sync: catch_up.CatchUp, party: int, message: Message) -> None:
    """One that is behind may know nobody else any more: final blocks lead it to those who vote now.
    One that is ahead may vote by now, and all whom I know as members may be gone."""
    if isinstance(message, FetchChain) and core.epoch.number:
        catch_up.give_chain(core, party, message.height)
    elif isinstance(message, Status) and message.epoch > core.epoch.number:
        sync.claims[party] = message.height


def check(core: Core, message: Message) -> None:
    """Raise `InvalidInput` if a member says to me, a follower, what concerns voters only."""
    if core.follows and not isinstance(message, Status | Body | Chain | Certificates):
        raise InvalidInput("this is for voters", expected="status or blocks")
