"""A small witness (c2sp.org/tlog-witness) on a real socket, and ways in which one may misbehave.

It keeps the newest checkpoint of each log that it was told of, cosigns only what extends that, and
takes nobody's word for it. `misbehave` makes it lie, stall or babble instead.
"""

import base64
import datetime
import ipaddress
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tilth_ledger.checkpoints import Checkpoint, cosign, cosign_mldsa
from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import SigningKey
from tilth_ledger.merkle import EMPTY_ROOT, verify_consistency
from tilth_ledger.mldsa import MlDsaSigningKey
from tilth_ledger.notes import (
    COSIGNATURE,
    ED25519,
    MLDSA_COSIGNATURE,
    NoteVerifier,
    VerifierKey,
    open_note,
)

SIZE = "text/x.tlog.size"


class Witness:
    """Signs for the logs whose keys it was given; serves until it is closed."""

    def __init__(self, logs, name="witness.example/w1", seed=5, quantum=False, tls=None):
        self.name = name
        self.key = SigningKey.from_seed(bytes([seed]) * 32)
        self.mldsa = MlDsaSigningKey.from_seed(bytes([seed]) * 32) if quantum else None
        self.logs = logs  # origin: verifier keys
        self.newest = {}  # origin: (size, root)
        self.misbehave = None  # status, body, headers in place of an honest answer
        self.asked = []  # (old size, size, status) of every request
        self.told = threading.Condition()
        self._lock = threading.Lock()
        self._stalled = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self):
        return self._server.server_address[1]

    @property
    def keys(self):
        found = [VerifierKey(self.name, COSIGNATURE, self.key.public.raw)]
        if self.mldsa is not None:
            found.append(VerifierKey(self.name, MLDSA_COSIGNATURE, self.mldsa.public.raw))
        return found

    def close(self):
        self._stalled.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def stall(self):
        """Answer nothing until it is closed."""
        self._stalled.wait()

    def add_checkpoint(self, body):
        """(status, body, type) for a request, as the specification has it."""
        try:
            old, proof, note = _request(body)
            origin = note.partition(b"\n")[0].decode()
        except (ValueError, InvalidInput):
            return 400, b"", "text/plain"
        if origin not in self.logs:
            return 404, b"", "text/plain"
        try:
            opened = open_note(note, [NoteVerifier(key) for key in self.logs[origin]])
            head = Checkpoint.parse(opened.text)
        except InvalidInput:
            return 403, b"", "text/plain"
        if old > head.size or (proof and not old):
            return 400, b"", "text/plain"
        with self._lock:
            size, root = self.newest.get(origin, (0, EMPTY_ROOT))
            if old != size or (size == head.size and root != head.root):
                return 409, b"%d\n" % size, SIZE
            try:
                verify_consistency(old, head.size, proof, root, head.root)
            except InvalidInput:
                return 422, b"", "text/plain"
            self.newest[origin] = (head.size, head.root)
        return 200, self.lines(opened.text), "text/plain"

    def lines(self, text, time=1_795_000_000):
        """Its signature lines on a checkpoint's text."""
        lines = [cosign(self.name, self.key, text, time)]
        if self.mldsa is not None:
            lines.append(cosign_mldsa(self.name, self.mldsa, text, time))
        return "".join(f"{line}\n" for line in lines).encode()


def _handler(witness):
    """The requests of one witness."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            status, answer, kind = witness.add_checkpoint(body)
            more = {"content-type": kind}
            if self.path != "/prefix/add-checkpoint":
                status, answer = 404, b""
            if witness.misbehave is not None:
                status, answer, more = witness.misbehave(body, answer)
            with witness.told:
                old = int(body.partition(b"\n")[0].removeprefix(b"old ") or 0)
                witness.asked.append((old, _size(body), status))
                witness.told.notify_all()
            self.send_response(status)
            for name, value in {"content-length": str(len(answer)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    return Handler


def _request(body):
    """(old size, proof, checkpoint); ValueError when it is malformed."""
    head, separator, note = body.partition(b"\n\n")
    first, *proof = head.decode("ascii").split("\n")
    word, _, number = first.partition(" ")
    if word != "old" or not separator or str(int(number)) != number or len(proof) > 63:
        raise ValueError(first)
    return int(number), [base64.b64decode(step, validate=True) for step in proof], note


def _size(body):
    return int(body.partition(b"\n\n")[2].split(b"\n")[1])


def log_keys(origin, signers):
    """What a witness is told of a consortium: every member's log key."""
    return {origin: [VerifierKey(origin, ED25519, each.log.raw) for each in signers.members]}


def tls_of(folder, name):
    """What a server with a certificate for this name or address serves with; and the file by which
    who trusts it knows it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    try:
        stated = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        stated = x509.DNSName(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([stated]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file, secret = folder / f"{name}.pem", folder / f"{name}.key"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, secret)
    return context, str(file)
