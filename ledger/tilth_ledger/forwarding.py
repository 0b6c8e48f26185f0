"""Who is told of a certificate that this member formed, and when.

Invariants:
- Everybody is told who may lack it: who has no link to those who voted must not depend on them.
  Only who shows by its own votes that it has the certificate, or the votes for it, is left out.
- A certificate goes out at once, with one exception: where two votes make one, a member that holds
  my finalize vote needs but its own, which is on its way. Then the certificate waits for other news
  to that member, up to a tenth of Delta. The newest one stands for all before it.

Left to others: forming certificates (votes), those who do not vote (following), whoever was away
(catch_up).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tilth_ledger.blocks import FINALIZE, NOTARIZE, Certificate
from tilth_ledger.messages import Certificates

if TYPE_CHECKING:
    from tilth_ledger.core import Core


PAIR = 2  # votes that make a certificate of two or three members


@dataclass(slots=True)
class Owed:
    """Certificates of finality that wait, by the member who may lack them."""

    newest: dict[int, Certificate] = field(default_factory=dict)
    due_ms: int | None = None

    def take(self, member: int, formed: Certificate | None) -> Certificate | None:
        """What the member is owed now that `formed` has come."""
        held = self.newest.pop(member, None)
        if held is None or (formed is not None and formed.view > held.view):
            return formed
        return held

    def keep(self, member: int, certificate: Certificate, until_ms: int) -> None:
        if self.due_ms is None:
            self.due_ms = until_ms
        self.newest[member] = certificate


def forward(core: Core) -> None:
    """Send what this step formed, after everything else of the step was decided."""
    owed = core.owed
    final, news = _newest_final(core), [c for c in core.out.certificates if c.kind is not FINALIZE]
    if not news and final is None and not owed.newest:
        return
    due = core.ended or (owed.due_ms is not None and core.now >= owed.due_ms)
    for member in core.others:
        _tell(core, member, news, owed.take(member, final), due=due)
    if not owed.newest:
        owed.due_ms = None


def _tell(
    core: Core, member: int, news: list[Certificate], final: Certificate | None, *, due: bool
) -> None:
    told = [certificate for certificate in news if not _has(core, member, certificate)]
    if final is not None and member in core.connected and not _has(core, member, final):
        waits = core.epoch.q == PAIR and not (told or due or _hears_anyway(core, member))
        if waits:
            core.owed.keep(member, final, core.now + core.pace.delta_ms // 10)
        else:
            told.append(final)
    if told:
        core.send((member,), Certificates(tuple(told)))


def _newest_final(core: Core) -> Certificate | None:
    formed = (each for each in core.out.certificates if each.kind is FINALIZE)
    return max(formed, key=lambda certificate: certificate.view, default=None)


def _has(core: Core, member: int, certificate: Certificate) -> bool:
    """Whether a member has this certificate, or all votes for it: it finalized what was notarized,
    or its own vote and mine, which it heard, are enough."""
    view = certificate.view
    theirs = core.table.voted(view, FINALIZE, member)
    if theirs is None or certificate.kind is not FINALIZE:
        return theirs is not None and certificate.kind is NOTARIZE
    mine = core.table.voted(view, FINALIZE, core.me)
    agreeing = [vote for vote in (theirs, mine) if vote and vote.block == certificate.block]
    return len(agreeing) >= core.epoch.q


def _hears_anyway(core: Core, member: int) -> bool:
    return bool(core.out.votes) or any(member in send.to for send in core.out.sends)
