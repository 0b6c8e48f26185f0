"""ML-DSA-44 keys (FIPS 204): signatures that an audit can still believe in ten years.

Invariants:
- A key is made from a 32-byte seed and nothing else; signatures are made with an empty context.
- A signing key never shows its seed in `repr` or in an error.

Signatures are hedged with randomness inside the library, so two over the same bytes differ.
Left to others: what is signed (checkpoints), where seeds come from (the node's keystore).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import KEY_BYTES, BadSignature, unhex

MLDSA_KEY_BYTES = 1312
MLDSA_SIGNATURE_BYTES = 2420


@dataclass(frozen=True, slots=True)
class MlDsaKey:
    """An ML-DSA-44 public key; equal when the 1,312 raw bytes are."""

    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.raw) != MLDSA_KEY_BYTES:
            raise InvalidInput(
                "not an ML-DSA-44 public key",
                found=f"{len(self.raw)} bytes",
                expected=MLDSA_KEY_BYTES,
            )

    @staticmethod
    def from_hex(text: object) -> MlDsaKey:
        """The key written as 2,624 lower-case hex digits."""
        return MlDsaKey(unhex(text, MLDSA_KEY_BYTES, "ML-DSA-44 public key"))

    @property
    def hex(self) -> str:
        return self.raw.hex()

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise `BadSignature` unless `signature` is this key's over `message`."""
        if len(signature) != MLDSA_SIGNATURE_BYTES:
            raise BadSignature(
                "signature has the wrong length",
                found=len(signature),
                expected=MLDSA_SIGNATURE_BYTES,
            )
        try:
            _loaded(self.raw).verify(signature, message)
        except InvalidSignature:
            raise BadSignature(
                "signature does not verify",
                found=f"one that is not of ML-DSA-44 key {self.hex[:16]}... over these bytes",
            ) from None


@dataclass(frozen=True, slots=True)
class MlDsaSigningKey:
    """An ML-DSA-44 private key."""

    _private: MLDSA44PrivateKey = field(repr=False, compare=False)
    public: MlDsaKey

    @staticmethod
    def from_seed(seed: bytes) -> MlDsaSigningKey:
        """The key of a 32-byte seed."""
        if len(seed) != KEY_BYTES:
            raise InvalidInput(
                "not an ML-DSA-44 seed", found=f"{len(seed)} bytes", expected=KEY_BYTES
            )
        private = MLDSA44PrivateKey.from_seed_bytes(seed)
        return MlDsaSigningKey(private, MlDsaKey(private.public_key().public_bytes_raw()))

    def sign(self, message: bytes) -> bytes:
        """2,420 signature bytes."""
        return self._private.sign(message)


@lru_cache(maxsize=1024)
def _loaded(raw: bytes) -> MLDSA44PublicKey:
    return MLDSA44PublicKey.from_public_bytes(raw)
