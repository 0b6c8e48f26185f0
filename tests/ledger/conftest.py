"""A consortium made of fixed seeds, for tests of the ledger's core."""

from dataclasses import dataclass
from functools import cached_property

import pytest

from tilth_ledger.blocks import Certificate, Kind, Vote
from tilth_ledger.epochs import Epoch
from tilth_ledger.genesis import KEY_NAMES, Genesis, member_file, parse_member_file
from tilth_ledger.keys import SigningKey

PEM = "-----BEGIN CERTIFICATE-----\n" + "A" * 64 + "\n-----END CERTIFICATE-----\n"


@dataclass(frozen=True)
class Consortium:
    """A genesis, and every private key behind it."""

    genesis: Genesis
    keys: tuple[dict[str, SigningKey], ...]

    @cached_property
    def epoch(self):
        return Epoch.first(self.genesis)

    def vote(self, member, kind, view, block):
        return Vote.sign(self.epoch, self.keys[member]["vote"], member, kind, view, block)

    def certificate(self, kind=Kind.NOTARIZE, view=1, block=b"b" * 32, members=(0, 1)):
        votes = [self.vote(member, kind, view, block) for member in members]
        return Certificate.of(votes, len(self.genesis.members))


def site(number):
    root = SigningKey.from_seed(number.to_bytes(32))
    return {name: root.derive(name) for name in KEY_NAMES}


def party(number):
    return parse_member_file(
        member_file(f"org-{number}", f"Organization {number}", site(number), PEM)
    )


@pytest.fixture(scope="session")
def consortium_of():
    """Makes a consortium of n members; `choices` go to `Genesis.write`."""

    def make(n, name="test", **choices):
        members = [party(number) for number in range(1, n + 1)]
        genesis = Genesis.write(name, members, limits={"leaf_bytes": 65_535}, **choices)
        return Consortium(genesis, tuple(site(number) for number in range(1, n + 1)))

    return make


@pytest.fixture(scope="session")
def consortium(consortium_of):
    return consortium_of(3)


@pytest.fixture(scope="session")
def new_party():
    """Makes the organization of a number, as its member file gives it."""
    return party
