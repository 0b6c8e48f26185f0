"""The token that a client's request carries: who asks, what exactly, of which node, until when.

Text form, in the metadata `tilth-token`: `<key id>.<expiry in ms>.<signature in hex>`. The
signature covers a domain tag, the consortium, the node's organization, the method, the SHA-256 of
the request's bytes, the expiry and the key id, one to a line.

Invariants:
- A token is good for one method, one body and one node; it cannot be moved to another.
- On a stream of requests the body is the first message.
- No token lives longer than `LONGEST_MS`, so that a clock set wrong does not make one that lasts
  for years.

Left to others: what time it is, and whether the key stands on the ledger and is active.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import KEY_BYTES, SIGNATURE_BYTES, PublicKey, SigningKey, hex_of, unhex

METADATA = "tilth-token"
LONGEST_MS = 600_000
_DOMAIN = "tilth token 1"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a token binds beside its key and expiry."""

    net: str
    organization: str  # the node's
    method: str  # such as /tilth.v1.Ledger/Submit
    body: bytes


@dataclass(frozen=True, slots=True)
class Token:
    """A parsed token; nothing is verified yet."""

    key_id: str
    expires_ms: int
    signature: bytes

    @staticmethod
    def parse(text: str) -> Token:
        parts = text.split(".")
        if len(text) > 300 or len(parts) != 3 or not (parts[1].isascii() and parts[1].isdecimal()):
            raise InvalidInput(
                "this is no token", found=repr(text[:40]), expected="key id, expiry and signature"
            )
        key_id, expires, signature = parts
        return Token(
            hex_of(key_id, KEY_BYTES, "the token's key id"),
            int(expires),
            unhex(signature, SIGNATURE_BYTES, "the token's signature"),
        )

    def verify(self, public: PublicKey, asked: Asked, now_ms: int) -> None:
        """Raise `InvalidInput` unless `public` asked exactly this and the time is not over."""
        left = self.expires_ms - now_ms
        if not 0 < left <= LONGEST_MS:
            raise InvalidInput(
                "the token has expired" if left <= 0 else "the token lasts too long",
                found=f"{left} ms left by the node's clock",
                expected=f"1 to {LONGEST_MS}",
                remedy="compare the clocks of both machines",
            )
        public.verify(self.signature, _signed(self.key_id, self.expires_ms, asked))


def write_token(key: SigningKey, asked: Asked, expires_ms: int) -> str:
    """The text of a token by `key`."""
    signature = key.sign(_signed(key.key_id, expires_ms, asked))
    return f"{key.key_id}.{expires_ms}.{signature.hex()}"


def _signed(key_id: str, expires_ms: int, asked: Asked) -> bytes:
    body = hashlib.sha256(asked.body).hexdigest()
    lines = (_DOMAIN, asked.net, asked.organization, asked.method, body, str(expires_ms), key_id)
    return "\n".join(lines).encode()
