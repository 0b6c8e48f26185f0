"""TLS of a node: one authority per organization, and short-lived certificates under it.

- An authority stands in the genesis and signs for one organization only: a certificate speaks for
  organization X when X's authority, and no other, issued it directly and it names `X.tilth`.
- Certificates live for a day and are made again from half of that; no ledger entry is needed.
- Keys of certificates are never stored.

Leaves to others: TLS versions and handshakes (rpc), which organizations there are (genesis).
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tilth_ledger.errors import InvalidInput, PeerFault

AUTHORITY_LIFE = datetime.timedelta(days=3650)
LIFE = datetime.timedelta(hours=24)
SKEW = datetime.timedelta(hours=1)  # clocks of sites differ


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key, for either end of a connection."""

    key: bytes = field(repr=False)  # PEM
    certificate: bytes  # PEM
    issued: datetime.datetime
    renew_after: datetime.datetime

    def serves(self, now: datetime.datetime) -> bool:
        """Whether to go on showing it; not when it was issued in what is now the future: a clock
        that was wrong has been set right, and peers would not believe it yet."""
        return self.issued <= now < self.renew_after


def server_name(organization: str) -> str:
    """The name that a certificate of the organization carries, wherever it listens."""
    return f"{organization}.tilth"


def new_authority(organization: str, now: datetime.datetime) -> tuple[bytes, bytes]:
    """(key, certificate) as PEM of a new authority for one organization."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{organization} authority")
    certificate = (
        _certificate(name, name, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=False, issues=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _key_pem(key), certificate.public_bytes(serialization.Encoding.PEM)


def issue(
    authority_key: bytes, authority: bytes, organization: str, now: datetime.datetime
) -> Identity:
    """A fresh certificate for the organization's node."""
    issuer_key = serialization.load_pem_private_key(authority_key, None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise InvalidInput("the TLS authority has a key of another kind", expected="P-256")
    issuer = x509.load_pem_x509_certificate(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    name = server_name(organization)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _certificate(_name(name), issuer.subject, key.public_key(), now, LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(_usage(signs=True, issues=False), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return Identity(_key_pem(key), pem, now, now + LIFE / 2)


def organization_of(leaf: bytes, authorities: Mapping[str, bytes]) -> str:
    """The one organization that a peer's certificate (PEM) speaks for. Raises PeerFault.

    The handshake only proves that some listed authority issued it: any member's could then speak
    for any other. Here the name and the issuer must belong together.
    """
    certificate = x509.load_pem_x509_certificate(leaf)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        claimed = names.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        claimed = []
    for organization, authority in authorities.items():
        if claimed == [server_name(organization)]:
            try:
                certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
            except (InvalidSignature, ValueError, TypeError) as error:
                raise PeerFault(
                    f"a certificate names {organization} but its authority did not issue it",
                    found=f"issued by {certificate.issuer.rfc4514_string()}",
                    expected=f"the authority of {organization} in the genesis",
                ) from error
            return organization
    raise PeerFault("a certificate names no organization of this consortium", found=str(claimed))


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs: bool, issues: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        key_cert_sign=issues,
        crl_sign=issues,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
