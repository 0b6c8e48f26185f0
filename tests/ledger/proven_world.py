"""A small ledger of real leaves whose rows can be proven: for tests of the verifier.

Three sites test one model; every site's keys come from its name, so that anyone here can sign.
"""

import base64
import json
from dataclasses import replace

from tilth import verifier
from tilth_ledger import bundle, canonical, merkle
from tilth_ledger.blocks import FINALIZE, Certificate, Header, Justification, Vote
from tilth_ledger.epochs import Epoch
from tilth_ledger.genesis import KEY_NAMES, Genesis, member_file, parse_member_file
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import CERTIFIED_RESULT, Leaf, write_entry
from tilth_ledger.rows import MemoryRows

PEM = "-----BEGIN CERTIFICATE-----\n" + "A" * 64 + "\n-----END CERTIFICATE-----\n"
SITES = ("north", "south", "west")
ORGANIZER = SigningKey.from_seed(bytes([77]) * 32)
STRANGER = SigningKey.from_seed(bytes([88]) * 32)
OBJECTIVE = "north/" + "0b" * 16
BUILTIN = canonical.sha256_hex(b'{"builtin":"accuracy"}')
MODEL, ALGO = "aa" * 32, "bb" * 32
MATRICES = {"north": [[8, 2], [1, 9]], "south": [[3, 0], [0, 7]], "west": [[1, 1], [1, 1]]}


def site(name):
    root = SigningKey.from_seed(name.encode().ljust(32, b"."))
    return {key: root.derive(key) for key in KEY_NAMES}


def genesis_of(name="test", **choices):
    files = [member_file(s, s.title(), site(s), PEM) for s in SITES]
    return Genesis.write(name, map(parse_member_file, files), limits={}, **choices)


def key_of(kind, name):
    return f"{name}/{canonical.sha256_hex(f'{kind} {name}'.encode())[:32]}"


def score_of(name):
    matrix = [list(counts) for counts in MATRICES[name]]  # whoever spoils one spoils a copy
    count = sum(map(sum, matrix))
    value = (matrix[0][0] + matrix[1][1]) / count
    return {
        "value": f"{value:.6f}",
        "count": count,
        "statistics": {"labels": [0, 1], "matrix": matrix},
    }


def done_of(name, **changes):
    operation = {
        "op": "task.done",
        "task": key_of("task", name),
        "attempt": 1,
        "outputs": {},
        "score": score_of(name),
        "receipt": {
            "grade": "B",
            "labels": "sealed",
            "runtime": "sandbox",
            "inputs": {"model": MODEL},
            "set": "cc" * 32,
            "codes": {
                "code": ALGO,
                "opener": canonical.sha256_hex(name.encode()),
                "metric": BUILTIN,
            },
            "data_check": "content",
        },
    }
    return operation | changes


def scored(name, metric):
    """The worker's report on a test whose metric has this digest."""
    receipt = done_of(name)["receipt"]
    codes = receipt["codes"] | {"metric": metric}
    return done_of(name, receipt=receipt | {"codes": codes})


def statement_of(network, name, entries, **changes):
    subjects = {
        "model": MODEL,
        "algo": ALGO,
        "dataset": canonical.sha256_hex(name.encode()),
        "evaluation": BUILTIN,
    }
    predicate = {
        "net": network,
        "objective": OBJECTIVE,
        "revision": 1,
        "metric": {"builtin": "accuracy"},
        "combine": "pooled",
        "direction": "maximize",
        "primary": "accuracy",
        "plan": key_of("plan", "north"),
        "task": key_of("task", name),
        "attempt": 1,
        "worker": name,
        "dataset": key_of("dataset", name),
        "set": key_of("set", name),
        "set_digest": "cc" * 32,
        "score": score_of(name),
        "grade": "B",
        "entries": entries,
    }
    named = changes.pop("subject", {})
    digests = {n: d for n, d in (subjects | named).items() if d}
    return {
        "_type": changes.pop("_type", "https://in-toto.io/Statement/v1"),
        "subject": [{"name": n, "digest": {"sha256": d}} for n, d in digests.items()],
        "predicateType": changes.pop("predicateType", "urn:tilth:certified-result:1"),
        "predicate": {n: v for n, v in (predicate | changes).items() if v is not ...},
    }


class Ledger:
    """A small ledger of real leaves, finalized by real votes."""

    def __init__(self, genesis=None):
        self.genesis = genesis or genesis_of()
        self.rows = MemoryRows()
        self.leaves, self.nodes = [], {}
        self.frontier = merkle.Frontier()

    def append(self, leaf):
        data = leaf if isinstance(leaf, bytes) else leaf.encode()
        self.frontier, new = self.frontier.append(merkle.leaf_hash(data))
        self.nodes |= {(level, index): hashed for level, index, hashed in new}
        self.leaves.append(data)
        return len(self.leaves) - 1

    def write(self, organization, key, *operations, net=None):
        nonce = f"{len(self.leaves):032x}"
        return self.append(
            write_entry(net or self.genesis.net, organization, key, nonce, operations)
        )

    def introduce(self, by, key, roles):
        operation = {"op": "identity.add", "public": key.public.hex, "roles": roles}
        index = self.write(by, site(by)["admin"], operation)
        self.rows.apply({f"identity/{key.key_id}": canonical.dumps({"index": index})})
        return index

    def certify(self, name, done=None, signer=None, organization=None, **changes):
        """The worker's entry and the system leaf that follows; the index of the latter."""
        operation = done or done_of(name)
        key = signer or site(name)["node"]
        at = self.write(organization or name, key, operation)
        entries = {"done": at} | changes.pop("entries", {})
        statement = statement_of(self.genesis.net, name, entries, **changes)
        return self.append(Leaf(CERTIFIED_RESULT, canonical.dumps(statement)))

    def header(self, **changes):
        fields = {
            "net": self.genesis.net_bytes,
            "epoch": 0,
            "view": 9,
            "height": 5,
            "parent": b"p" * 32,
            "parent_view": 8,
            "skips": Justification(None).skips_digest,
            "leaf_count": 1,
            "size": self.frontier.size,
            "root": self.frontier.root(),
            "state": b"s" * 32,
            "time_ms": 1_795_000_000_123,
            "proposer": 0,
        }
        return Header(**(fields | changes))

    def certificate(self, header, members=(0, 2), kind=FINALIZE, **changes):
        votes = [
            Vote.sign(
                Epoch.first(self.genesis), site(SITES[m])["vote"], m, kind, header.view, header.hash
            )
            for m in members
        ]
        return replace(Certificate.of(votes, 3), **changes)

    def node(self, level, index):
        return self.nodes[level, index]

    def bundle(self, *wanted, header=None, certificate=None):
        """A bundle of version 1, as nodes wrote it before heads were cosigned."""
        header = header or self.header()
        certificate = certificate or self.certificate(header)
        closure = bundle._closure(wanted, header.size, self.leaves.__getitem__, self.rows)
        leaves = [
            {
                "index": index,
                "leaf": base64.b64encode(closure[index]).decode(),
                "path": [
                    step.hex() for step in merkle.inclusion_proof(index, header.size, self.node)
                ],
            }
            for index in sorted(closure)
        ]
        value = {"format": "tilth-bundle-1", "genesis": self.genesis.net, "leaves": leaves}
        value |= {"header": header.encode().hex(), "certificate": certificate.encode().hex()}
        return canonical.dumps(value)

    def verify(self, *wanted, **choices):
        return verifier.verify(self.bundle(*wanted, **choices), self.genesis.bytes)


def objective(sets=SITES, **changes):
    operation = {
        "op": "objective.add",
        "key": OBJECTIVE,
        "metric": {"builtin": "accuracy"},
        "combine": "pooled",
        "direction": "maximize",
        "primary": "accuracy",
        "sets": [{"dataset": key_of("dataset", s), "set": key_of("set", s)} for s in sets],
    }
    return operation | changes


def row(certified=SITES, **changes):
    """A ledger with an objective on three sites, and the indexes of a row's results."""
    ledger = Ledger()
    ledger.append(write_entry(ledger.genesis.net, "west", STRANGER, "00" * 16, [{"op": "x.y"}]))
    ledger.introduce("north", ORGANIZER, ["organizer"])
    at = ledger.write("north", ORGANIZER, objective(**changes))
    results = [ledger.certify(name, entries={"objective": at}) for name in certified]
    for number in range(5):
        ledger.write("south", site("south")["admin"], {"op": "x.y", "n": number})
    return ledger, results


def spoil(data, change):
    """A bundle with `change` made to its JSON."""
    value = json.loads(data)
    change(value)
    return canonical.dumps(value)
