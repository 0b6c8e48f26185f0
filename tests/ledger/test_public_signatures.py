"""Signatures against vectors that nobody here made; each file names its source and licence. Of
those for Ed25519 the node's keys and the verifier's own check must say the same."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from tilth import verifier
from tilth_ledger.keys import BadSignature, PublicKey, SigningKey
from tilth_ledger.mldsa import MlDsaKey, MlDsaSigningKey

VECTORS = Path(__file__).parent / "vectors"


def read(name):
    return json.loads((VECTORS / name).read_text())


def parts(vector, *names):
    return [bytes.fromhex(vector[name]) for name in names]


def verdicts(key, signature, message):
    """What the node and the verifier say."""
    found = []
    for check, error in (
        (lambda: PublicKey(key).verify(signature, message), BadSignature),
        (
            lambda: verifier._check_signature("check", key, signature, message),
            verifier._Refusal,
        ),
    ):
        try:
            check()
        except error:
            found.append(False)
        else:
            found.append(True)
    return found


@pytest.mark.parametrize(
    "vector", read("ed25519_sign_input.json")["vectors"], ids=lambda v: v["line"]
)
def test_known_answers_of_ed25519(vector):
    seed, public, message, signature = parts(vector, "seed", "public", "message", "signature")
    key = SigningKey.from_seed(seed)
    assert key.public.raw == public
    assert key.sign(message) == signature
    assert verdicts(public, signature, message) == [True, True]
    assert verdicts(public, signature, message + b"\0") == [False, False]


CASES = read("wycheproof_ed25519.json")


@pytest.mark.parametrize("vector", CASES["vectors"], ids=lambda v: v["test"])
def test_cases_of_wycheproof_on_which_verifiers_differ(vector):
    signature, message = parts(vector, "signature", "message")
    public = bytes.fromhex(CASES["public"])
    assert verdicts(public, signature, message) == [vector["valid"]] * 2


@pytest.mark.parametrize("vector", read("mldsa44_kat.json")["vectors"], ids=lambda v: v["count"])
def test_known_answers_of_ml_dsa_44(vector):
    seed, public, message, context, signature = parts(
        vector, "seed", "public", "message", "context", "signature"
    )
    key = MlDsaSigningKey.from_seed(seed)
    assert key.public.raw == public
    MlDsaKey(public).verify(key.sign(message), message)
    # Known signatures are over a context; ours are over none, and one is never taken for the other.
    MLDSA44PublicKey.from_public_bytes(public).verify(signature, message, context)
    with pytest.raises(BadSignature):
        MlDsaKey(public).verify(signature, message)
