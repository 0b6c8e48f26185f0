"""Ed25519 keys: sign, verify, name.

Invariants:
- The 14 encodings of low-order points are refused as public key and as R before the library
  verifies: there, and only there, OpenSSL and libsodium give different verdicts.
- A key's id is SHA-256 of a domain tag and the raw key, in hex.
- A signing key never shows its seed in `repr` or in an error.

Left to others: where seeds come from and how they are stored (the node's keystore).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from tilth_ledger.errors import InvalidInput

KEY_BYTES = 32
SIGNATURE_BYTES = 64

# Encodings of the eight points of order 1, 2, 4 and 8, canonical or not. Source: Chalkias,
# Garillot, Nikolaenko, "Taming the many EdDSAs" (SSR 2020), table 6; libsodium's
# ge25519_has_small_order.
_LOW_ORDER_Y = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)


def _with_both_signs(encoding: bytes) -> tuple[bytes, bytes]:
    return encoding, encoding[:31] + bytes([encoding[31] | 0x80])


LOW_ORDER = frozenset(e for y in _LOW_ORDER_Y for e in _with_both_signs(bytes.fromhex(y)))


class BadSignature(InvalidInput):
    """A signature that does not verify under the key it claims."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key; equal when the 32 raw bytes are."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise InvalidInput(
                "not an Ed25519 public key", found=f"{len(self.raw)} bytes", expected=KEY_BYTES
            )
        if self.raw in LOW_ORDER:
            raise InvalidInput("public key is a low-order point", found=self.raw.hex())

    @staticmethod
    def from_hex(text: object) -> PublicKey:
        """The key written as 64 lower-case hex digits."""
        return PublicKey(unhex(text, KEY_BYTES, "public key"))

    @property
    def hex(self) -> str:
        return self.raw.hex()

    @property
    def key_id(self) -> str:
        """The key's name in entries: 64 hex digits."""
        return _key_id(self.raw)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise `BadSignature` unless `signature` is this key's over `message`."""
        if len(signature) != SIGNATURE_BYTES:
            raise BadSignature(
                "signature has the wrong length", found=len(signature), expected=SIGNATURE_BYTES
            )
        if signature[:32] in LOW_ORDER:
            raise BadSignature("signature's R is a low-order point", found=signature[:32].hex())
        try:
            # libsodium takes 40 us where OpenSSL takes 65: most of what an entry costs a voter.
            crypto_sign_open(signature + message, self.raw)
        except BadSignatureError:
            raise BadSignature(
                "signature does not verify",
                found=f"a signature that is not of key {self.key_id[:16]} over these bytes",
            ) from None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 private key, and the root of keys derived from it by label."""

    _seed: bytes = field(repr=False)
    _secret: bytes = field(repr=False)  # as libsodium takes it: the seed and the public key
    public: PublicKey

    @staticmethod
    def from_seed(seed: bytes) -> SigningKey:
        """The key of a 32-byte seed, which the caller drew at random."""
        if len(seed) != KEY_BYTES:
            raise InvalidInput(
                "not an Ed25519 seed", found=f"{len(seed)} bytes", expected=KEY_BYTES
            )
        public, secret = crypto_sign_seed_keypair(seed)
        return SigningKey(seed, secret, PublicKey(public))

    def derive(self, label: str) -> SigningKey:
        """An independent key for one purpose: HKDF-SHA256 of the seed, `label` in its info."""
        return SigningKey.from_seed(self.derive_seed(label))

    def derive_seed(self, label: str) -> bytes:
        """The seed of such a key, for a key of another kind."""
        info = b"tilth/key/1\0" + label.encode()
        return HKDF(SHA256(), KEY_BYTES, None, info).derive(self._seed)

    @property
    def key_id(self) -> str:
        return self.public.key_id

    def sign(self, message: bytes) -> bytes:
        """64 signature bytes (RFC 8032, deterministic)."""
        return crypto_sign(message, self._secret)[:SIGNATURE_BYTES]


def unhex(text: object, length: int, what: str) -> bytes:
    """`length` bytes from lower-case hex, or `InvalidInput` naming `what`."""
    return bytes.fromhex(hex_of(text, length, what))


def hex_of(text: object, length: int, what: str) -> str:
    """`text` if it is `length` bytes in lower-case hex, or `InvalidInput` naming `what`."""
    if isinstance(text, str) and len(text) == 2 * length:
        try:
            if bytes.fromhex(text).hex() == text:  # a third of a regular expression's time
                return text
        except ValueError:
            pass
    raise InvalidInput(
        f"{what} is not lower-case hex", found=repr(text)[:80], expected=f"{2 * length} hex digits"
    )


@lru_cache(maxsize=4096)
def _key_id(raw: bytes) -> str:
    return hashlib.sha256(b"tilth/ed25519\0" + raw).hexdigest()
