"""TLS of a node: one authority per organization, and short-lived certificates under it.

- An authority stands on the ledger and signs for one organization only: a certificate speaks for
  organization X when it names `X.tilth` and X's authority, and no other, issued it, or issued the
  authority that replaced it (*crossed*). So who knows the old one only, knows the new one too.
- Certificates live for a day and are made again from half of that; no ledger entry is needed.
- Keys of certificates are never stored.

Leaves to others: TLS versions and handshakes (rpc), which organizations there are (genesis).
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tilth_ledger.errors import InvalidInput, PeerFault

AUTHORITY_LIFE = datetime.timedelta(days=30 * 365)  # who joins in ten years begins from the first
MOST_LINKS = 16  # of a chain of authorities
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
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # A name of its own: whoever looks for an issuer by name must not find the one of before.
    name = _name(f"{organization} authority {own.digest.hex()[:8]}")
    certificate = _authority(name, name, key.public_key(), now, AUTHORITY_LIFE, own)
    signed = certificate.sign(key, hashes.SHA256())
    return _key_pem(key), signed.public_bytes(serialization.Encoding.PEM)


def crossed(new: bytes, key: bytes, old: bytes, now: datetime.datetime) -> bytes:
    """The certificate (PEM) by which the `old` authority, whose key this is, vouches for the
    `new` one as long as it would itself have lived."""
    old_key, issuer = _issuer(key, old)
    after = x509.load_pem_x509_certificate(new)
    public = after.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise InvalidInput("the TLS authority has a key of another kind", expected="P-256")
    life = issuer.not_valid_after_utc - now
    by = x509.SubjectKeyIdentifier.from_public_key(old_key.public_key())
    certificate = _authority(after.subject, issuer.subject, public, now, life, by)
    return certificate.sign(old_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def issue(
    authority_key: bytes, authority: bytes, organization: str, now: datetime.datetime
) -> Identity:
    """A fresh certificate for the organization's node."""
    issuer_key, issuer = _issuer(authority_key, authority)
    by = x509.SubjectKeyIdentifier.from_public_key(issuer_key.public_key())
    key = ec.generate_private_key(ec.SECP256R1())
    name = server_name(organization)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _certificate(_name(name), issuer.subject, key.public_key(), now, LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(_usage(signs=True, issues=False), critical=True)
        .add_extension(_issued_by(by), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return Identity(_key_pem(key), pem, now, now + LIFE / 2)


def organization_of(shown: bytes, authorities: Mapping[str, bytes]) -> str:
    """The one organization that a peer's certificate speaks for: `shown` is it and the authorities
    that it came with (PEM), `authorities` those that count for each organization. Raises PeerFault.

    The handshake only proves that some listed authority issued it: any member's could then speak
    for any other. Here the name and the issuer must belong together.
    """
    try:
        certificate, *chain = x509.load_pem_x509_certificates(shown)[: MOST_LINKS + 1]
    except ValueError as error:
        raise PeerFault("what a peer shows is no chain of certificates") from error
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        claimed = names.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        claimed = []
    for organization, authority in authorities.items():
        if claimed == [server_name(organization)]:
            if any(_leads_to(certificate, chain, root) for root in _certificates(authority)):
                return organization
            raise PeerFault(
                f"a certificate names {organization} but its authority did not issue it",
                found=f"issued by {certificate.issuer.rfc4514_string()}",
                expected=f"the authority of {organization} on the ledger",
                remedy="if it rotated its authority while this node was away, and kept no overlap:"
                " tilth node join FOLDER genesis.json --peers FILE",
            )
    raise PeerFault("a certificate names no organization of this consortium", found=str(claimed))


def _certificates(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem)


def _leads_to(
    certificate: x509.Certificate, chain: Sequence[x509.Certificate], root: x509.Certificate
) -> bool:
    """Whether a root issued a certificate, or the first of its chain's that did, and so on."""
    for link in chain:
        if _issued(certificate, root):
            return True
        if not _issued(certificate, link):
            return False
        certificate = link
    return _issued(certificate, root)


def _issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
        return by.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False


def _issuer(key: bytes, authority: bytes) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    loaded = serialization.load_pem_private_key(key, None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise InvalidInput("the TLS authority has a key of another kind", expected="P-256")
    return loaded, x509.load_pem_x509_certificate(authority)


def check_authority(key_path: Path, key: bytes, path: Path, certificate: bytes) -> None:
    """Raise `InvalidInput` that names the file unless both can be read and belong together."""
    remedy = "Restore it from its backup, or make a new one: tilth node rotate FOLDER --tls"
    try:
        own = serialization.load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The cause may quote what stands there.
        raise InvalidInput(f"{key_path} is no key, or damaged", remedy=remedy) from None
    try:
        authority = x509.load_pem_x509_certificate(certificate)
        shown = authority.public_key()
        authority.verify_directly_issued_by(authority)
    except (
        *(ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion),
    ) as error:
        raise InvalidInput(
            f"{path} is no certificate of an authority, or damaged", found=error, remedy=remedy
        ) from error
    if own != shown:
        raise InvalidInput(
            f"{key_path} is not the key of {path.name}: one of them is damaged", remedy=remedy
        )


def _authority(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    life: datetime.timedelta,
    by: x509.SubjectKeyIdentifier,
) -> x509.CertificateBuilder:
    """A certificate that may issue others, and later authorities in its place."""
    return (
        _certificate(subject, issuer, public, now, life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs=False, issues=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_issued_by(by), critical=False)
    )


def _issued_by(key: x509.SubjectKeyIdentifier) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key)


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
