"""What a node shows when it listens and dials, and its port for clients.

- All is TLS under the organization's own authority; certificates are renewed without a restart, at
  the handshake that first finds them old.
- Between nodes the other side must show a certificate of a listed authority as well.
- A port that is taken is an error with words, never shared silently.
"""

import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import grpc

from tilth_ledger.errors import InvalidInput
from tilth_node import tls
from tilth_node.clock import Clock
from tilth_node.config import address
from tilth_node.keystore import Keys
from tilth_node.rpc import wire
from tilth_node.rpc.places import Places

MAX_REQUEST_BYTES = 4 << 20  # of a client
MAX_STREAMS = 256  # at once on one connection of a client
MAX_CONNECTIONS = 512  # of clients; one more is closed at once
HANDSHAKE_MS = 10_000  # for a client to say who it is in TLS, before the connection is closed
KEEPALIVE_MS = 30_000
KEEPALIVE_TIMEOUT_MS = 10_000

# An idle connection of a client carries a ping in 30 s.
KEEPALIVE: list[tuple[str, int]] = [
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
]
CLIENT_OPTIONS = [
    *KEEPALIVE,
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
    ("grpc.http2.bdp_probe", 0),  # else a stream may fill 4 MB before anybody waits for it
]


class Certificates:
    """The node's own certificate, always fresh, and the authorities that it accepts."""

    def __init__(
        self, keys: Keys, organization: str, authorities: Mapping[str, bytes], clock: Clock
    ) -> None:
        self.authorities = authorities
        self._keys = keys
        self._organization = organization
        self._clock = clock
        self._identity = self._issue()
        self._accepting: tuple[tls.Identity, ssl.SSLContext] | None = None

    def use(self, keys: Keys, authorities: Mapping[str, bytes]) -> None:
        """From now on show a certificate under these keys' authority, and accept these others'."""
        self.authorities = authorities
        self._accepting = None
        if keys.authority != self._keys.authority:
            self._keys = keys
            self._identity = self._issue()

    @property
    def crossed(self) -> bytes:
        """What older authorities say of the one that certificates are issued by now (PEM)."""
        return self._keys.crossed

    def current(self) -> tls.Identity:
        """The certificate to show now; called from gRPC's threads as well."""
        identity = self._identity
        if not identity.serves(self._clock.utc()):
            identity = self._identity = self._issue()
        return identity

    def for_clients(self, came: Callable[[], None]) -> grpc.ServerCredentials:
        """Credentials of a port where only the server shows a certificate; `came` is called from
        any thread when a connection is accepted."""
        shown = self.current()
        return grpc.dynamic_ssl_server_credentials(
            _configuration(shown), self.renewal(shown, came), False
        )

    def renewal(
        self, shown: tls.Identity, came: Callable[[], None] = lambda: None
    ) -> Callable[[], Any]:
        """What gRPC asks at each handshake, in any of its threads: the configuration to show from
        now on, or None.

        None as long as nothing changed: any other answer takes away what handshakes beside this
        one still use, and gRPC 1.85 dies of it where some dozens of connections come at once.
        """
        turn = Lock()

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            came()
            with turn:
                if (now := self.current()) is shown:
                    return None
                shown = now
                return _configuration(now)

        return renewed

    def for_peers(self) -> ssl.SSLContext:
        """TLS of connections that other nodes open: made once for all, as making it takes longer
        than refusing a stranger."""
        identity = self.current()
        if self._accepting is None or self._accepting[0] is not identity:
            made = self._context(ssl.PROTOCOL_TLS_SERVER, self.authorities.values())
            made.num_tickets = 0  # a session taken up again would show no certificate
            self._accepting = identity, made
        return self._accepting[1]

    def for_dialling(self, organization: str) -> ssl.SSLContext:
        """TLS to dial one organization: no authority but its own is believed."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT, [self.authorities[organization]])

    def _context(self, side: int, authorities: Iterable[bytes]) -> ssl.SSLContext:
        identity = self.current()
        return wire.context(side, identity.key, identity.certificate, authorities)

    def _issue(self) -> tls.Identity:
        keys, now = self._keys, self._clock.utc()
        own = tls.issue(keys.authority_key, keys.authority, self._organization, now)
        # Who knows an older authority only finds its way from there.
        return replace(own, certificate=own.certificate + keys.crossed)


@dataclass(frozen=True, slots=True)
class ClientsPort:
    """A listening server, and who looks after its connections."""

    server: grpc.aio.Server
    places: Places

    async def start(self) -> None:
        await self.server.start()

    async def stop(self, grace: float | None) -> None:
        self.places.close()
        await self.server.stop(grace)


def _configuration(identity: tls.Identity) -> grpc.ServerCertificateConfiguration:
    pairs = [(identity.key, identity.certificate)]
    return grpc.ssl_server_certificate_configuration(pairs, None)


def listen(
    at: str,
    credentials: grpc.ServerCredentials,
    register: Iterable[Callable[[grpc.aio.Server], None]],
    options: Sequence[tuple[str, int]],
    interceptors: Iterable[grpc.aio.ServerInterceptor] = (),
) -> tuple[grpc.aio.Server, str]:
    """A server bound to `at` with its services, and its real address. Raises InvalidInput."""
    server = grpc.aio.server(
        interceptors=tuple(interceptors), options=[*options, ("grpc.so_reuseport", 0)]
    )
    for add in register:
        add(server)
    host, _ = address(at)
    try:
        port = server.add_secure_port(at, credentials)
    except RuntimeError as error:
        raise InvalidInput(
            f"cannot listen on {at}",
            found=str(error).splitlines()[0][:200],
            remedy="free the address, or write another into node.toml",
        ) from error
    return server, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
