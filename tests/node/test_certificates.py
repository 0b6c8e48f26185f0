"""Certificates that a node shows: renewed in time, also by a clock that was wrong for a while."""

import datetime
from pathlib import Path

from tilth_node import keystore, tls
from tilth_node.clock import Clock
from tilth_node.rpc.server import Certificates

HOUR = datetime.timedelta(hours=1)


class Settable(Clock):
    """The machine's clock, and how far it is off."""

    __slots__ = ("off",)

    def __init__(self) -> None:
        self.off = datetime.timedelta()

    def utc(self) -> datetime.datetime:
        return super().utc() + self.off


def certificates(folder: Path, clock: Clock) -> Certificates:
    keystore.create(folder, clock, tls.new_authority("hospital-a", clock.utc()))
    keys = keystore.load(folder)
    return Certificates(keys, "hospital-a", {"hospital-a": keys.authority}, clock)


def test_a_certificate_is_shown_for_half_of_its_life_and_then_renewed(tmp_path: Path) -> None:
    clock = Settable()
    shown = certificates(tmp_path, clock)
    first = shown.current()
    clock.off = 11 * HOUR
    assert shown.current() is first
    clock.off = 13 * HOUR
    assert shown.current() is not first


def test_a_certificate_that_a_wrong_clock_issued_goes_when_the_clock_is_right(
    tmp_path: Path,
) -> None:
    """Regression: it was not yet valid to any peer, and was shown until its time came."""
    clock = Settable()
    shown = certificates(tmp_path, clock)
    clock.off = 400 * 24 * HOUR
    ahead = shown.current()
    clock.off = datetime.timedelta()
    right = shown.current()
    assert right is not ahead
    assert right.serves(clock.utc())
    assert not ahead.serves(clock.utc())


def test_handshakes_are_told_of_a_certificate_once_when_it_changes(tmp_path: Path) -> None:
    """Regression: each was told of it again; fifty connections at once, opened and closed without a
    word, then ended the process (a fault of gRPC 1.85, in handshakes beside the one that asked)."""
    clock = Settable()
    shown = certificates(tmp_path, clock)
    renewal = shown.renewal(shown.current())
    assert [renewal() for _ in range(3)] == [None, None, None]
    clock.off = 13 * HOUR

    assert renewal() is not None
    assert [renewal() for _ in range(3)] == [None, None, None]


def test_connections_share_what_tls_needs_until_a_certificate_or_an_authority_changes(
    tmp_path: Path,
) -> None:
    clock = Settable()
    shown = certificates(tmp_path, clock)
    first = shown.for_peers()
    assert shown.for_peers() is first
    assert first.num_tickets == 0  # so every connection shows a certificate
    shown.use(keystore.load(tmp_path), {})
    without = shown.for_peers()
    assert (len(first.get_ca_certs()), len(without.get_ca_certs())) == (1, 0)
    clock.off = 13 * HOUR
    assert shown.for_peers() is not without
