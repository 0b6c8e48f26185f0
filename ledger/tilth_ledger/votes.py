"""Votes and certificates by view: what others signed, counted.

Invariants:
- Every vote that counts, and every certificate, has been verified, once.
- A member counts once per view and kind; its first vote counts.
- Two votes of one member that no honest member signs both of become `Evidence`, once for each kind
  of pair and view; whoever drives the table takes it from `evidence`. Of each kind of vote a
  member's first two are kept, so that no order of arrival hides a pair.
- Votes are admitted for views from `KEPT_VIEWS` back to one ahead, so memory is bounded;
  certificates are admitted from any view, since nobody can make one alone.

Left to others: which votes to cast (ballot, replica).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Certificate, Kind, Vote
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.evidence import Evidence, conflict

KEPT_VIEWS = 1_000
KINDS = tuple(Kind)


@dataclass(slots=True)
class ViewVotes:
    """What is known of one view."""

    votes: dict[tuple[Kind, int], Vote] = field(default_factory=dict)
    certificates: dict[tuple[Kind, bytes], Certificate] = field(default_factory=dict)
    second: dict[tuple[Kind, int], Vote] = field(default_factory=dict)  # beside those of `votes`
    accused: set[tuple[int, str]] = field(default_factory=set)  # member, kind of pair
    heard: set[tuple[Kind, int]] = field(default_factory=set)
    verified: set[tuple[Kind, int]] = field(default_factory=set)  # keys of `votes`

    def of_kind(self, kind: Kind) -> Certificate | None:
        """The first certificate of this kind."""
        return next((c for (k, _), c in self.certificates.items() if k is kind), None)

    def of_member(self, member: int) -> list[Vote]:
        """All that a member said, as far as it is kept."""
        keys = [(kind, member) for kind in KINDS]
        said = [self.votes[key] for key in keys if key in self.votes]
        if self.second:
            said += [self.second[key] for key in keys if key in self.second]
        return said

    def agreeing(self, vote: Vote) -> list[Vote]:
        """The votes that say the same."""
        return [
            other
            for (kind, _), other in self.votes.items()
            if kind is vote.kind and other.block == vote.block
        ]


_NOTHING = ViewVotes()


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
        held = known.votes.get((vote.kind, vote.member))
        if held == vote:
            known.heard.add((vote.kind, vote.member))
            return None
        needed = held is not None or (vote.kind, vote.block) not in known.certificates
        if needed:
            vote.verify(self._epoch)
        known.heard.add((vote.kind, vote.member))
        return self._count(known, vote, verified=needed)

    def count(self, vote: Vote) -> Certificate | None:
        """Count a vote that I signed or verified."""
        return self._count(self._view(vote.view), vote, verified=True)

    def learn(self, certificate: Certificate) -> bool:
        """Verify and keep a certificate; whether it is new. Raises `InvalidInput` if it is bad."""
        known = self._views.get(certificate.view)
        key = (certificate.kind, certificate.block)
        if known is not None and (held := known.certificates.get(key)) is not None:
            if held != certificate and certificate.view > self._forgotten:
                certificate.check_form(self._epoch)
                self._compare(known, certificate, verified=False)
            return False
        self.verify(certificate)
        if certificate.view <= self._forgotten:
            return True  # nobody needs it, and it must not fill memory
        known = self._view(certificate.view)
        known.certificates[key] = certificate
        for vote in certificate.votes():
            self._note(known, vote, verified=True)
        return True

    def witness(self, certificate: Certificate) -> None:
        """Compare the votes of a verified certificate with what their members said otherwise."""
        known = self._views.get(certificate.view)
        if known is not None and known.votes:
            self._compare(known, certificate, verified=True)

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
                self._views[past].second.clear()
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

    def _compare(self, known: ViewVotes, certificate: Certificate, *, verified: bool) -> None:
        """What the members of a certificate said is kept beside what they say otherwise."""
        for vote in certificate.votes():
            self._keep(known, vote, verified=verified)

    def _note(self, known: ViewVotes, vote: Vote, *, verified: bool) -> None:
        """Keep a vote that came from its member, or that was verified."""
        if not self._keep(known, vote, verified=verified):
            return
        latest = self._latest.get(vote.member, ())
        if not latest or latest[0].view < vote.view:
            self._latest[vote.member] = (vote,)
        elif latest[0].view == vote.view and vote.kind not in {held.kind for held in latest}:
            self._latest[vote.member] = (*latest, vote)

    def _keep(self, known: ViewVotes, vote: Vote, *, verified: bool) -> bool:
        """Keep a vote as its member's; whether its member may have cast it."""
        key = (vote.kind, vote.member)
        if known.votes.get(key) == vote:  # compared with all others when it, or they, came
            if verified:
                known.verified.add(key)
            return True
        if not self._accuse(known, vote):
            return False
        held = known.votes.setdefault(key, vote)
        if held == vote:
            if verified:
                known.verified.add(key)
        elif held.block != vote.block:
            known.second.setdefault(key, vote)
        return True

    def _accuse(self, known: ViewVotes, vote: Vote) -> bool:
        """Compare a vote with its member's others; whether it may be kept. One that was never
        verified is so now, and counts for nothing if its member did not sign it."""
        for other in known.of_member(vote.member):
            if not conflict(other, vote):
                continue
            evidence = Evidence.of(other, vote)
            if (vote.member, evidence.pair) in known.accused:
                continue
            if not self._is_signed(vote):
                return False
            if self._is_signed(other):
                known.accused.add((vote.member, evidence.pair))
                self.evidence.append(evidence)
            else:
                known.votes.pop((other.kind, other.member), None)
        return True

    def _is_signed(self, vote: Vote) -> bool:
        try:
            vote.verify(self._epoch)
        except InvalidInput:
            return False
        return True
