"""Where an outside witness is asked, and by which keys it answers: what an operator writes.

- https, or http to this machine itself; plain http elsewhere only if the operator says so: what is
  sent is signed and public, but who listens in between can keep the answer away.
"""

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from tilth_ledger.errors import InvalidInput
from tilth_ledger.notes import VerifierKey
from tilth_ledger.policies import COSIGNERS

MAX_KEYS = 4  # of one witness


@dataclass(frozen=True, slots=True)
class WitnessAddress:
    """One witness."""

    url: SplitResult  # of add-checkpoint
    keys: tuple[VerifierKey, ...]

    @staticmethod
    def parse(prefix: str, keys: tuple[str, ...], *, plain_http: bool) -> "WitnessAddress":
        """The witness with this submission prefix and these verifier keys. Raises InvalidInput."""
        try:
            url = urlsplit(prefix)
            sound = url.scheme in ("http", "https") and url.hostname and url.port != 0
        except ValueError:
            sound = False
        if not sound or url.query or url.fragment or "@" in url.netloc or not prefix.isascii():
            raise _mistake("a witness' address is wrong", prefix, "https://HOST/PREFIX")
        if url.scheme == "http" and not plain_http and not _is_here(url.hostname or ""):
            raise _mistake(
                "a witness is asked over https", prefix, "https://..., or [witness] plain_http"
            )
        parsed = tuple(VerifierKey.parse(key) for key in keys)
        if not 1 <= len(parsed) <= MAX_KEYS or any(key.type not in COSIGNERS for key in parsed):
            found = ", ".join(key[:60] for key in keys) or "none"
            raise _mistake("a witness has no key that cosigns", found, "keys of type 0x04 or 0x06")
        path = url.path.rstrip("/") + "/add-checkpoint"
        return WitnessAddress(url._replace(path=path), parsed)


def _is_here(host: str) -> bool:
    """Whether a host is this machine, without asking anybody."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _mistake(message: str, found: str, expected: str) -> InvalidInput:
    return InvalidInput(message, found=found, expected=expected)
