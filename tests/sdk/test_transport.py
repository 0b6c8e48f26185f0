"""The wire: errors come back with all their facts, and no answer is never taken for a no."""

import json
import socket
import threading
from concurrent import futures
from datetime import UTC, datetime

import grpc
import pytest

from tilth import InvalidInput, Refused, Unknown, Unreachable, transport
from tilth.transport import Transport
from tilth_ledger.keys import SigningKey
from tilth_ledger.token import METADATA, Asked, Token
from tilth_node import tls
from tilth_protos import ledger_pb2 as ledger
from tilth_protos import ledger_pb2_grpc as services

NET = "ab" * 32
KEY = SigningKey.from_seed(bytes(range(32)))
REFUSED = Refused("R1", "no test samples", found="a test set", expected="train", remedy="Choose.")


class Node(services.LedgerServicer):
    """A node that answers what a test wants, and keeps what it was asked."""

    def __init__(self):
        self.submitted = []
        self.tokens = []
        self.answers = threading.Event()

    def Submit(self, request, context):  # noqa: N802
        self.submitted.append(bytes(request.leaves[0]))
        token = dict(context.invocation_metadata())[METADATA]
        self.tokens.append((token, request.SerializeToString()))
        if request.leaves[0] == b"refuse":
            refusal = ledger.Refusal(rule="R1", message="no test samples", remedy="Choose.")
            outcome = ledger.Outcome(id="x", refusal=refusal)
        elif request.leaves[0] == b"late" and not self.answers.is_set():
            # The first try is not answered before its deadline; whoever asks again is.
            self.answers.set()
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait()
            return ledger.SubmitResponse()
        elif request.leaves[0] == b"never":
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait()
            return ledger.SubmitResponse()
        else:
            outcome = ledger.Outcome(id="x", receipt=ledger.Receipt(index=7, size=9))
        return ledger.SubmitResponse(outcomes=[outcome])

    def GetRow(self, request, context):  # noqa: N802
        facts = ((transport.ERROR_METADATA, json.dumps(REFUSED.as_dict()).encode()),)
        context.set_trailing_metadata(facts)
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(REFUSED))

    def ScanRows(self, request, context):  # noqa: N802
        return ledger.ScanRowsResponse(
            rows=[ledger.Row(key="algo/x", value=b'{"name":"n"}')], more=False
        )

    def WatchRows(self, request, context):  # noqa: N802
        yield ledger.RowChanges(size=1, changes=[ledger.RowChange(key="a", value=b"{}")])
        yield ledger.RowChanges(size=1, live=True)
        yield ledger.RowChanges(
            size=2, changes=[ledger.RowChange(key="a", deleted=True)], live=True
        )


@pytest.fixture(scope="module")
def authority():
    return tls.new_authority("hospital-a", datetime.now(UTC))


def serve(node, authority, address="127.0.0.1:0"):
    """A server for the node, and its address."""
    identity = tls.issue(*authority, "hospital-a", datetime.now(UTC))
    server = grpc.server(futures.ThreadPoolExecutor(8))
    services.add_LedgerServicer_to_server(node, server)
    credentials = grpc.ssl_server_credentials([(identity.key, identity.certificate)])
    port = server.add_secure_port(address, credentials)
    server.start()
    return server, f"127.0.0.1:{port}"


@pytest.fixture
def served(authority):
    """A listening node, and its address."""
    node = Node()
    server, address = serve(node, authority)
    yield node, address
    server.stop(None).wait()


@pytest.fixture
def node(served):
    return served[0]


@pytest.fixture
def wire(served, authority):
    made = Transport(served[1], "hospital-a", NET, KEY, authority[1])
    yield made
    made.close()


def test_a_receipt_says_where_the_entry_stands(wire):
    receipt = wire.submit(b"entry")

    assert (receipt.index, receipt.size) == (7, 9)


def test_every_call_carries_a_token_that_binds_its_very_bytes(wire, node):
    wire.submit(b"entry")

    text, body = node.tokens[0]
    token = Token.parse(text)
    asked = Asked(NET, "hospital-a", "/tilth.v1.Ledger/Submit")
    token.verify(KEY.public, asked, token.expires_ms - 1)
    token.check(body)


def test_a_refusal_comes_back_with_its_rule_and_what_to_do(wire):
    with pytest.raises(Refused) as caught:
        wire.submit(b"refuse")

    assert caught.value.rule == "R1"
    assert caught.value.remedy == "Choose."


def test_an_error_of_the_node_comes_back_as_it_was_raised(wire):
    with pytest.raises(Refused) as caught:
        wire.get_row("algo/x")

    assert caught.value.as_dict() == REFUSED.as_dict()


def test_when_the_answer_is_late_the_same_bytes_are_sent_again(wire, node, monkeypatch):
    seconds = 0.25
    while node.submitted != [b"late", b"late"]:  # a busy machine may be late as well
        node.submitted.clear()
        node.answers.clear()
        seconds *= 2
        monkeypatch.setattr(transport, "SUBMIT_SECONDS", seconds)
        assert seconds < 100, "never sent just once again"

        receipt = wire.submit(b"late")

        assert receipt.index == 7


def test_no_answer_at_all_is_unknown_and_says_so(wire, node, monkeypatch):
    seconds = 0.15
    while node.submitted != [b"never"] * transport.SUBMIT_TRIES:  # a try may not have come so far
        node.submitted.clear()
        seconds *= 2
        monkeypatch.setattr(transport, "SUBMIT_SECONDS", seconds)
        assert seconds < 100, "not sent so often"

        with pytest.raises(Unknown, match="may have been done"):
            wire.submit(b"never")


def test_rows_come_as_values(wire):
    assert wire.scan_rows("algo/", "", 10) == ([("algo/x", {"name": "n"})], False)


def test_changes_tell_what_came_and_what_went(wire):
    changes = list(wire.watch(["a"]))

    assert [each.live for each in changes] == [False, True, True]
    assert changes[0].rows == (("a", {}),)
    assert changes[2].rows == (("a", None),)


class Standing(Node):
    """A node whose news are few: one row, and then nothing until it goes away."""

    def WatchRows(self, request, context):  # noqa: N802
        yield ledger.RowChanges(size=1, changes=[ledger.RowChange(key="a", value=b"{}")])
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait()


def test_a_watch_goes_on_when_the_node_comes_back(authority):
    first, address = serve(Standing(), authority)
    wire = Transport(address, "hospital-a", NET, KEY, authority[1])
    changes = wire.watch(["a"])
    assert next(changes).rows == (("a", {}),)

    first.stop(None).wait()
    second, _ = serve(Node(), authority, address)

    assert [each.live for each in changes] == [False, True, True]
    wire.close()
    second.stop(None).wait()


@pytest.mark.usefixtures("once")
def test_a_watch_of_a_node_that_was_never_there_fails_at_once(authority):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        wire = Transport(address, "hospital-a", NET, KEY, authority[1])

        with pytest.raises(Unreachable):
            next(wire.watch(["a"]))
        wire.close()


@pytest.fixture
def once(monkeypatch):
    """No second attempts: what is wrong stays wrong."""
    monkeypatch.setattr(transport, "OPTIONS", (("grpc.enable_retries", 0),))


@pytest.mark.usefixtures("once")
def test_a_node_that_is_not_there_is_unreachable(authority):
    with socket.socket() as taken:  # bound, so that nobody else answers, and not listening
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        wire = Transport(address, "hospital-a", NET, KEY, authority[1])

        with pytest.raises(Unreachable, match="tilth node run"):
            wire.status()
        wire.close()


@pytest.mark.usefixtures("once")
def test_a_node_under_another_authority_is_not_believed(served):
    stranger = tls.new_authority("hospital-a", datetime.now(UTC))
    wire = Transport(served[1], "hospital-a", NET, KEY, stranger[1])

    with pytest.raises(Unreachable):
        wire.status()
    wire.close()


@pytest.mark.usefixtures("once")
def test_a_node_of_another_organization_is_not_believed(served, authority):
    wire = Transport(served[1], "hospital-b", NET, KEY, authority[1])

    with pytest.raises(Unreachable):
        wire.status()
    wire.close()


def test_malformed_input_is_another_class_than_a_refusal():
    assert isinstance(transport._refusal(ledger.Refusal(message="cut short")), InvalidInput)
