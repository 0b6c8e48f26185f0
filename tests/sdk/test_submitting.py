"""Many callers at once: few calls, few entries, and each caller's own answer."""

import threading
from concurrent import futures
from datetime import UTC, datetime

import grpc
import pytest

from tilth import InvalidInput, Refused, Unreachable
from tilth.submitting import CALLS, ENTRIES, QUICK_CALLS, SHARED_ENTRIES, Recorder, Submitter
from tilth.transport import Transport
from tilth_ledger.canonical import dumps, loads
from tilth_ledger.keys import SigningKey
from tilth_node import tls
from tilth_protos import ledger_pb2 as ledger
from tilth_protos import ledger_pb2_grpc as services

KEY = SigningKey.from_seed(bytes(range(32)))
CALLERS = 60


class Node(services.LedgerServicer):
    """Answers when it is let; refuses an entry with an operation that says so."""

    def __init__(self):
        self.calls = []
        self.entries = []
        self.may_answer = threading.Event()

    def Submit(self, request, context):  # noqa: N802
        self.calls.append(len(request.leaves))
        self.may_answer.wait()
        return ledger.SubmitResponse(outcomes=[self.outcome(leaf) for leaf in request.leaves])

    def outcome(self, leaf):
        operations = loads(leaf)
        if any(each.get("bad") for each in operations):
            return ledger.Outcome(id="x", refusal=ledger.Refusal(rule="R1", message="no"))
        self.entries.append(operations)
        place = len(self.entries)
        return ledger.Outcome(id="x", receipt=ledger.Receipt(index=place - 1, size=place))


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def wire(node):
    authority = tls.new_authority("hospital-a", datetime.now(UTC))
    identity = tls.issue(*authority, "hospital-a", datetime.now(UTC))
    server = grpc.server(futures.ThreadPoolExecutor(8))
    services.add_LedgerServicer_to_server(node, server)
    credentials = grpc.ssl_server_credentials([(identity.key, identity.certificate)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    made = Transport(f"127.0.0.1:{port}", "hospital-a", "ab" * 32, KEY, authority[1])
    yield made
    made.close()
    node.may_answer.set()
    server.stop(None).wait()


@pytest.fixture
def recorder(wire):
    return Recorder(Submitter(wire), dumps)


def test_one_entry_alone_leaves_at_once(node, wire):
    node.may_answer.set()

    receipt = Submitter(wire).submit(dumps([{"n": 1}])).result()

    assert (receipt.index, receipt.size) == (0, 1)
    assert node.calls == [1]


def test_entries_that_wait_share_calls_and_keep_their_own_outcomes(node, wire):
    submitter = Submitter(wire)

    answers = [submitter.submit(dumps([{"n": n, "bad": n == 7}])) for n in range(CALLERS)]
    node.may_answer.set()

    with pytest.raises(Refused, match="no"):
        answers.pop(7).result()
    assert sorted(each.result().index for each in answers) == list(range(CALLERS - 1))
    assert sum(node.calls) == CALLERS
    assert len(node.calls) == QUICK_CALLS + 1


def test_beside_the_calls_that_leave_at_once_a_full_one_leaves_too(node, wire):
    submitter = Submitter(wire)
    entries = QUICK_CALLS + SHARED_ENTRIES

    answers = [submitter.submit(dumps([{"n": n}])) for n in range(entries)]
    node.may_answer.set()

    assert sorted(each.result().index for each in answers) == list(range(entries))
    assert sorted(node.calls) == [1] * QUICK_CALLS + [SHARED_ENTRIES]


def test_no_call_takes_more_than_its_share(node, wire):
    submitter = Submitter(wire)
    large = [dumps([{"n": n, "text": "x" * 20_000}]) for n in range(10 * CALLS)]

    answers = [submitter.submit(leaf) for leaf in large]
    node.may_answer.set()

    assert sorted(each.result().index for each in answers) == list(range(len(large)))
    assert max(node.calls) < len(large) / 2


def test_operations_that_wait_share_entries(node, recorder):
    answers = [recorder.record(({"n": n},)) for n in range(CALLERS)]
    node.may_answer.set()

    assert len({each.result().index for each in answers}) == len(node.entries) == ENTRIES + 1
    assert [op["n"] for op in max(node.entries, key=len)] == list(range(ENTRIES, CALLERS))


def test_nobody_is_refused_for_anothers_operations(node, recorder):
    answers = [recorder.record(({"n": n, "bad": n == CALLERS - 3},)) for n in range(CALLERS)]
    node.may_answer.set()

    with pytest.raises(Refused, match="no"):
        answers.pop(CALLERS - 3).result()
    for each in answers:
        each.result()
    recorded = sorted(op["n"] for entry in node.entries for op in entry)
    assert recorded == [n for n in range(CALLERS) if n != CALLERS - 3]


def test_the_operations_of_one_caller_stay_together(node, recorder):
    first = [recorder.record(({"n": -1},)) for _ in range(ENTRIES)]
    pair = recorder.record(({"n": 1}, {"n": 2, "bad": True}))
    alone = recorder.record(({"n": 3},))
    node.may_answer.set()

    with pytest.raises(Refused):
        pair.result()
    alone.result()
    for each in first:
        each.result()
    assert [op["n"] for entry in node.entries for op in entry if op["n"] > 0] == [3]


def test_what_has_no_form_is_told_to_its_caller_alone(node, recorder):
    node.may_answer.set()

    with pytest.raises(InvalidInput):
        recorder.record(({"n": {1, 2}},)).result()
    assert recorder.record(({"n": 1},)).result().index == 0


def test_without_a_node_everybody_hears_so(wire):
    wire.close()
    far = Transport("127.0.0.1:1", "hospital-a", "ab" * 32, KEY, b"")

    with pytest.raises(Unreachable):
        Submitter(far).submit(b"[]").result()
    far.close()
