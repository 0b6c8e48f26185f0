"""Whom the ledger lists from an epoch on may connect, whom it lists no more is cut off, and nothing
is started again for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tilth_ledger.errors import PeerFault
from tilth_node import keystore, tls
from tilth_node.clock import Clock
from tilth_node.keystore import Keys
from tilth_node.rpc.peers import Peers, Self
from tilth_node.rpc.server import Certificates
from tilth_node.rpc.wire import PeerPort

NET = "cd" * 32
SECONDS = 100  # what never comes fails then


class Site:
    """One node that listens; `listed` are the organizations it knows of."""

    def __init__(self, folder: Path, name: str, addresses: dict[str, str]) -> None:
        self.folder, self.name, self.addresses = folder / name, name, addresses
        keystore.create(self.folder, Clock(), tls.new_authority(name, Clock().utc()))

    @property
    def keys(self) -> Keys:
        return keystore.load_newest(self.folder)

    @asynccontextmanager
    async def running(self, *listed: "Site") -> AsyncIterator[Peers]:
        certificates = Certificates(self.keys, self.name, authorities(*listed), Clock())
        me = Self(NET, self.name, "one", "test")
        peers = Peers(me, certificates, lambda name: self.addresses.get(name, ""), Clock())
        port = PeerPort("127.0.0.1:0", certificates.for_peers, peers.accept)
        await port.start()
        self.addresses[self.name] = port.address
        peers.start()
        try:
            yield peers
        finally:
            await peers.stop()
            await port.stop(0)


def authorities(*sites: Site) -> dict[str, bytes]:
    return {site.name: site.keys.authority for site in sites}


@pytest.fixture
def sites(tmp_path: Path) -> tuple[Site, Site]:
    addresses: dict[str, str] = {}
    return Site(tmp_path, "a", addresses), Site(tmp_path, "b", addresses)


async def test_a_newcomer_is_connected_when_it_is_listed_and_cut_off_when_it_is_not(
    sites: tuple[Site, Site],
) -> None:
    a, b = sites
    async with AsyncExitStack() as stack, asyncio.timeout(SECONDS):
        at_a = await stack.enter_async_context(a.running(a))
        at_b = await stack.enter_async_context(b.running(a))
        assert (at_a.others, at_a.links) == ([], {})
        at_a.admit(a.keys, authorities(a, b))
        await at_a.connected("b")
        await at_b.connected("a")

        gone = asyncio.Event()
        at_a.on_down = lambda name: gone.set()
        at_a.admit(a.keys, authorities(a))
        while at_a.links:  # of two that crossed, one may go first
            gone.clear()
            await gone.wait()
        assert (at_a.others, dict(at_a.links)) == ([], {})


def rotate(site: Site, *, overlap: bool) -> None:
    authority = tls.new_authority(site.name, Clock().utc())
    keystore.rotate(site.folder, Clock(), ["tls"], authority, overlap=overlap)


async def test_who_was_away_while_authorities_rotated_knows_them_by_the_old_ones(
    sites: tuple[Site, Site],
) -> None:
    a, b = sites
    listed = authorities(a, b)
    for _ in range(2):
        rotate(b, overlap=True)
    rotate(a, overlap=True)
    async with AsyncExitStack() as stack, asyncio.timeout(SECONDS):
        at_a = await stack.enter_async_context(a.running())
        at_b = await stack.enter_async_context(b.running())
        at_a.admit(a.keys, listed)
        at_b.admit(b.keys, listed)
        await at_a.connected("b")
        await at_b.connected("a")


async def test_an_authority_vouches_for_its_own_organization_only(
    sites: tuple[Site, Site],
) -> None:
    a, b = sites
    rotate(b, overlap=True)
    own = tls.issue(b.keys.authority_key, b.keys.authority, "b", Clock().utc())
    shown = own.certificate + b.keys.crossed
    older = {"a": a.keys.authority, "b": keystore.load(b.folder).authority}
    assert tls.organization_of(shown, older) == "b"
    with pytest.raises(PeerFault, match="did not issue"):
        tls.organization_of(shown, {"b": a.keys.authority})
    with pytest.raises(PeerFault, match="did not issue"):
        tls.organization_of(own.certificate, older)
    stolen = tls.issue(b.keys.authority_key, b.keys.authority, "a", Clock().utc())
    with pytest.raises(PeerFault, match="did not issue"):
        tls.organization_of(stolen.certificate + b.keys.crossed, older)


async def test_a_rotated_authority_counts_from_the_epoch_that_lists_it(
    sites: tuple[Site, Site],
) -> None:
    a, b = sites
    async with AsyncExitStack() as stack, asyncio.timeout(SECONDS):
        at_a = await stack.enter_async_context(a.running(a, b))
        old = b.keys
        rotate(b, overlap=False)
        assert b.keys.authority != old.authority
        # It shows the new one before a's ledger lists it: a does not take it for b.
        at_b = await stack.enter_async_context(b.running(a, b))
        at_a.readdress()
        assert at_a.links == {}
        at_a.admit(a.keys, authorities(a, b))
        await at_a.connected("b")
        await at_b.connected("a")
