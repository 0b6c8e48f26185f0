"""Votes and certificates by view: what others signed, counted.

Invariants:
- Every vote that counts, and every certificate, has been verified, once.
- A member counts once per view and kind; its first vote counts.
- Two votes of one member that no honest member signs both of become one `Evidence`, kept.
- Votes are admitted for views from `KEPT_VIEWS` back to one ahead, so memory is bounded;
  certificates are admitted from any view, since nobody can make one alone.

Left to others: which votes to cast (ballot, replica).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Certificate, Kind, Vote
from tilth_ledger.effects import Evidence
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput

KEPT_VIEWS = 1_000
KEPT_EVIDENCE = 256


@dataclass(slots=True)
class ViewVotes:
    """What is known of one view."""

    votes: dict[tuple[Kind, int], Vote] = field(default_factory=dict)
    certificates: dict[tuple[Kind, bytes], Certificate] = field(default_factory=dict)
    accused: set[int] = field(default_factory=set)
    heard: set[tuple[Kind, int]] = field(default_factory=set)
    verified: set[tuple[Kind, int]] = field(default_factory=set)  # keys of `votes`

    def of_kind(self, kind: Kind) -> Certificate | None:
        """The first certificate of this kind."""
        return next((c for (k, _), c in self.certificates.items() if k is kind), None)

    def agreeing(self, vote: Vote) -> list[Vote]:
        """The votes that say the same."""
        return [
            other
            for (kind, _), other in self.votes.items()
            if kind is vote.kind and other.block == vote.block
        ]


_NOTHING = ViewVotes()


def conflict(first: Vote, second: Vote) -> bool:
    """Whether no honest member signs both: the pairs that are evidence."""
    if (first.epoch, first.view, first.member) != (second.epoch, second.view, second.member):
        return False
    kinds = {first.kind, second.kind}
    if kinds == {FINALIZE, NULLIFY}:
        return True
    return NULLIFY not in kinds and first.block != second.block


class VoteTable:
    """All votes and certificates a member holds."""

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._views: dict[int, ViewVotes] = {}
        self._latest: dict[int, tuple[Vote, ...]] = {}
        self._highest = 0
        self._forgotten = 0
        self.evidence: list[Evidence] = []

    def admit(self, vote: Vote) -> Certificate | None:
        """Verify and count a vote of another member; the certificate that it completes, if any.

        Raises `InvalidInput` for a bad signature. A vote for which a certificate stands already
        is kept unverified: it can prove nothing more, except against its own sender.
        """
        known = self._view(vote.view)
        known.heard.add((vote.kind, vote.member))
        held = known.votes.get((vote.kind, vote.member))
        if held == vote:
            return None
        needed = held is not None or (vote.kind, vote.block) not in known.certificates
        if needed:
            vote.verify(self._epoch)
        return self._count(known, vote, verified=needed)

    def count(self, vote: Vote) -> Certificate | None:
        """Count a vote that I signed or verified."""
        return self._count(self._view(vote.view), vote, verified=True)

    def learn(self, certificate: Certificate) -> bool:
        """Verify and keep a certificate; whether it is new. Raises `InvalidInput` if it is bad."""
        known = self._views.get(certificate.view)
        key = (certificate.kind, certificate.block)
        if known is not None and key in known.certificates:
            return False
        self.verify(certificate)
        known = self._view(certificate.view)
        known.certificates[key] = certificate
        for vote in certificate.votes():
            self._note(known, vote, verified=True)
        return True

    def verify(self, certificate: Certificate) -> None:
        """Raise `InvalidInput` unless these very bytes are a good certificate; a signature that was
        verified before is not verified again."""
        known = self._views.get(certificate.view, _NOTHING)
        if known.certificates.get((certificate.kind, certificate.block)) == certificate:
            return
        certificate.check_form(self._epoch)
        for vote in certificate.votes():
            key = (vote.kind, vote.member)
            if key not in known.verified or known.votes[key] != vote:
                vote.verify(self._epoch)

    def notarization(self, view: int) -> Certificate | None:
        return self._of_kind(view, NOTARIZE)

    def nullification(self, view: int) -> Certificate | None:
        return self._of_kind(view, NULLIFY)

    def finalization(self, view: int) -> Certificate | None:
        return self._of_kind(view, FINALIZE)

    def notarized(self, above: int) -> Iterator[Certificate]:
        """Notarizations and finality certificates of views above one, newest view first."""
        if self._highest <= above:
            return
        for view in sorted(self._views_between(above, self._highest + 1), reverse=True):
            for certificate in self._views[view].certificates.values():
                if certificate.kind is not NULLIFY:
                    yield certificate

    def certificates(self, above: int) -> list[Certificate]:
        """Every certificate of views above one, oldest first."""
        views = sorted(self._views_between(above, self._highest + 1))
        return [c for view in views for c in self._views[view].certificates.values()]

    def finalizations(self, above: int) -> Iterator[Certificate]:
        """Finality certificates of views above one, newest first."""
        return (c for c in self.notarized(above) if c.kind is FINALIZE)

    def ended(self, view: int) -> list[Certificate]:
        """The certificates that end a view: at most one of each kind."""
        known = self._views.get(view)
        return [] if known is None else list(known.certificates.values())

    def is_certified(self, view: int, block: bytes) -> bool:
        """Whether this block is notarized or final in a view."""
        return any(c.block == block for c in self.ended(view) if c.kind is not NULLIFY)

    def was_heard(self, vote: Vote) -> bool:
        """Whether this vote came from its member before: then it is being repeated."""
        known = self._views.get(vote.view)
        return known is not None and (vote.kind, vote.member) in known.heard

    def voted(self, view: int, kind: Kind, member: int) -> Vote | None:
        """A member's vote, if I hold it."""
        known = self._views.get(view)
        return None if known is None else known.votes.get((kind, member))

    def latest(self, member: int) -> tuple[Vote, ...]:
        """The votes I hold of a member in its highest view."""
        return self._latest.get(member, ())

    @staticmethod
    def oldest(view: int) -> int:
        """Votes of views up to this one are not kept while `view` is the current one."""
        return view - KEPT_VIEWS

    def forget(self, finalized_view: int, view: int) -> None:
        """Drop votes of long ago, and certificates that nobody can need any more."""
        oldest = self.oldest(view)
        for past in self._views_between(self._forgotten, oldest):
            if past < finalized_view:
                del self._views[past]
            else:
                self._views[past].votes.clear()
                self._views[past].heard.clear()
                self._views[past].verified.clear()
        self._forgotten = max(self._forgotten, min(oldest, finalized_view) - 1)

    def __len__(self) -> int:
        return len(self._views)

    def _of_kind(self, view: int, kind: Kind) -> Certificate | None:
        known = self._views.get(view)
        return None if known is None else known.of_kind(kind)

    def _view(self, view: int) -> ViewVotes:
        if view not in self._views:
            self._views[view] = ViewVotes()
            self._highest = max(self._highest, view)
        return self._views[view]

    def _views_between(self, above: int, below: int) -> list[int]:
        """The known views with above < view < below; cheap for a short stretch."""
        if below - above < len(self._views):
            return [view for view in range(above + 1, below) if view in self._views]
        return [view for view in self._views if above < view < below]

    def _count(self, known: ViewVotes, vote: Vote, *, verified: bool) -> Certificate | None:
        self._note(known, vote, verified=verified)
        key = (vote.kind, vote.block)
        if key in known.certificates:
            return None
        agreeing = known.agreeing(vote)
        if len(agreeing) < self._epoch.q:
            return None
        certificate = Certificate.of(agreeing, len(self._epoch.members))
        known.certificates[key] = certificate
        return certificate

    def _note(self, known: ViewVotes, vote: Vote, *, verified: bool) -> None:
        """Keep a vote as its member's, unless the member said something before."""
        self._accuse(known, vote)
        key = (vote.kind, vote.member)
        if known.votes.setdefault(key, vote) == vote and verified:
            known.verified.add(key)
        latest = self._latest.get(vote.member, ())
        if not latest or latest[0].view < vote.view:
            self._latest[vote.member] = (vote,)
        elif latest[0].view == vote.view and vote.kind not in {held.kind for held in latest}:
            self._latest[vote.member] = (*latest, vote)

    def _accuse(self, known: ViewVotes, vote: Vote) -> None:
        if vote.member in known.accused or len(self.evidence) >= KEPT_EVIDENCE:
            return
        for other in _votes_of(known, vote.member):
            if conflict(other, vote) and self._both_signed(other, vote):
                known.accused.add(vote.member)
                self.evidence.append(Evidence(other, vote))
                return

    def _both_signed(self, *votes: Vote) -> bool:
        try:
            for vote in votes:
                vote.verify(self._epoch)
        except InvalidInput:
            return False
        return True


def _votes_of(known: ViewVotes, member: int) -> Iterable[Vote]:
    return [held for (_, voter), held in known.votes.items() if voter == member]
