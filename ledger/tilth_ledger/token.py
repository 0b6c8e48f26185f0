"""The token that a client's request carries: who asks, what exactly, of which node, until when.

Text form, in the metadata `tilth-token`: `<key id>.<expiry in ms>.<SHA-256 of the request's
bytes>.<signature>`, the last two in hex. The signature covers a domain tag, the consortium, the
node's organization, the method, that SHA-256, the expiry and the key id, one to a line. So it is
verified before a byte of the request is taken from a stranger.

Invariants:
- A token is good for one method, one body and one node; it cannot be moved to another.
- On a stream of requests the body is the first message.
- No token lives longer than `LONGEST_MS`, so that a clock set wrong does not make one that lasts
  for years.

Left to others: what time it is, and whether the key stands on the ledger and is active.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import KEY_BYTES, SIGNATURE_BYTES, PublicKey, SigningKey, hex_of, unhex

METADATA = "tilth-token"
LONGEST_MS = 600_000
_DOMAIN = "tilth token 2"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a token binds beside its key, its expiry and the request's bytes."""

    net: str
    organization: str  # the node's
    method: str  # such as /tilth.v1.Ledger/Submit


@dataclass(frozen=True, slots=True)
class Token:
    """A parsed token; nothing is verified yet."""

    key_id: str
    expires_ms: int
    digest: bytes  # of the request's bytes
    signature: bytes

    @staticmethod
    def parse(text: str) -> Token:
        parts = text.split(".")
        if len(text) > 300 or len(parts) != 4 or not (parts[1].isascii() and parts[1].isdecimal()):
            raise InvalidInput(
                "this is no token",
                found=repr(text[:40]),
                expected="key id, expiry, digest and signature",
            )
        key_id, expires, digest, signature = parts
        return Token(
            hex_of(key_id, KEY_BYTES, "the token's key id"),
            int(expires),
            unhex(digest, sha256().digest_size, "the token's digest"),
            unhex(signature, SIGNATURE_BYTES, "the token's signature"),
        )

    def verify(self, public: PublicKey, asked: Asked, now_ms: int) -> None:
        """Raise `InvalidInput` unless `public` asked this and the time is not over; `check` says
        whether with these bytes."""
        left = self.expires_ms - now_ms
        if not 0 < left <= LONGEST_MS:
            raise InvalidInput(
                "the token has expired" if left <= 0 else "the token lasts too long",
                found=f"{left} ms left by the node's clock",
                expected=f"1 to {LONGEST_MS}",
                remedy="compare the clocks of both machines",
            )
        public.verify(self.signature, _signed(self.key_id, self.expires_ms, self.digest, asked))

    def check(self, body: bytes) -> None:
        """Raise `InvalidInput` unless the token is for a request with these bytes."""
        if (found := sha256(body).digest()) != self.digest:
            raise InvalidInput(
                "the token is for another request", found=found.hex(), expected=self.digest.hex()
            )


def write_token(key: SigningKey, asked: Asked, body: bytes, expires_ms: int) -> str:
    """The text of a token by `key` for a request with these bytes."""
    digest = sha256(body).digest()
    signature = key.sign(_signed(key.key_id, expires_ms, digest, asked))
    return f"{key.key_id}.{expires_ms}.{digest.hex()}.{signature.hex()}"


def _signed(key_id: str, expires_ms: int, digest: bytes, asked: Asked) -> bytes:
    told = (asked.net, asked.organization, asked.method, digest.hex(), str(expires_ms), key_id)
    return "\n".join((_DOMAIN, *told)).encode()
