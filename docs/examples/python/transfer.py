#!/usr/bin/env python3
"""Moves money between two databases in one transaction, over the plain wire contract.

Nothing here but gRPC: what this file does, a client in any language can do.
"""

import argparse
import importlib
import pathlib
import sys
import tempfile
import time

import grpc
from grpc_tools import protoc

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
# What a broken connection and a server that stops answer. None of them says that the request failed.
ASK_AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


def compile_contract(proto, into):
    """Compiles the .proto files below `proto` and returns the generated modules."""
    names = ["common", "coordinator", "participant", "work"]
    files = [f"votum/v1/{name}.proto" for name in names]
    if protoc.main(["protoc", f"-I{proto}", f"--python_out={into}", f"--grpc_python_out={into}", *files]):
        sys.exit(f"the .proto files in {proto} could not be compiled")
    sys.path.insert(0, into)
    return [importlib.import_module(f"votum.v1.{name}_pb2{kind}") for name in names for kind in ("", "_grpc")]


def channel(address):
    """HOST:PORT, http://HOST:PORT and unix:/PATH."""
    # For a Unix socket gRPC would send its path as the authority, which is none: HTTP/2 servers refuse it.
    options = [("grpc.default_authority", "localhost")] if address.startswith("unix:") else []
    return grpc.insecure_channel(address.removeprefix("http://").rstrip("/"), options)


def detail_of(error):
    """The ErrorDetail that travels with every error of Votum, or None."""
    for key, value in error.trailing_metadata() or ():
        if key == "votum-error-bin":
            return common.ErrorDetail.FromString(value)
    return None


def until(deadline, ask):
    """Repeats a request that is safe to repeat, while connections break and until `deadline`."""
    pause = 0.02
    while True:
        try:
            return ask()
        except grpc.RpcError as error:
            found = detail_of(error)
            again = error.code() in ASK_AGAIN and (found is None or (found.retryable and not found.sql.sqlstate))
            if not again or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 1.0)


class Branch:
    """The transaction's part at one participant: its session, and its ordinals."""

    def __init__(self, begun, name, deadline):
        addresses = {at.participant: at.address for at in begun.participants}
        if name not in addresses:
            raise LookupError(f"there is no participant {name!r}; there are {', '.join(sorted(addresses))}")
        self.agent = participant_grpc.ParticipantStub(channel(addresses[name]))
        self.begun, self.name, self.deadline = begun, name, deadline
        self.session, self.ordinal = None, 0

    def execute(self, statement, *parameters):
        """Runs one statement; returns how many rows it touched."""
        left = max(1, int((self.deadline - time.monotonic()) * 1000))
        request = participant.ExecuteRequest(
            gtid=self.begun.gtid,
            secret=self.begun.secret,
            participant=self.name,
            ordinal=self.ordinal + 1,
            session=self.session,
            statement=statement,
            parameters=[value_of(value) for value in parameters],
            options=participant.BranchOptions(timeout_ms=left),
        )
        # The same request under the same ordinal: the agent runs it once and repeats its reply.
        parts = until(self.deadline, lambda: list(self.agent.Execute(request, timeout=left / 1000)))
        session = parts[0].started.session
        if self.session is not None and session != self.session:
            raise LookupError(f"the session at {self.name} is gone: its agent was restarted")
        self.session, self.ordinal = session, request.ordinal
        return parts[-1].finished.rows

    def claim(self):
        """What Commit has to know of this branch."""
        return coordinator.BranchClaim(participant=self.name, session=self.session, last_ordinal=self.ordinal)


def value_of(value):
    if isinstance(value, int):
        return participant.Value(int64=value)
    return participant.Value(text=str(value))


def commit(stub, begun, branches):
    """Asks for the decision until the outcome is known, or for a minute. Returns the outcome's name and text."""
    request = coordinator.CommitRequest(
        gtid=begun.gtid, secret=begun.secret, branches=[branch.claim() for branch in branches]
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            outcome = until(deadline, lambda: stub.Commit(request, timeout=60)).outcome
        except grpc.RpcError as error:
            return "unknown", f"{error.details()}; ask what became of {begun.gtid} before moving it again"
        kind = outcome.WhichOneof("kind")
        if kind in ("committed", "read_only") or time.monotonic() > deadline:
            return kind, ""
        if kind == "aborted":
            return kind, outcome.aborted.reason.message
        time.sleep(0.1)


def transfer(arguments):
    with channel(arguments.coordinator) as connection:
        stub = coordinator_grpc.CoordinatorStub(connection)
        deadline = time.monotonic() + arguments.timeout
        begin = coordinator.BeginRequest(
            timeout_ms=int(arguments.timeout * 1000), client_name="python", label="transfer"
        )
        begun = until(deadline, lambda: stub.Begin(begin, timeout=arguments.timeout))
        print(f"gtid: {begun.gtid}")
        move = "UPDATE account SET balance = balance + $1 WHERE id = $2"
        try:
            branches = []
            for name, amount in ((arguments.source, -arguments.amount), (arguments.target, arguments.amount)):
                branches.append(Branch(begun, name, deadline))
                if branches[-1].execute(move, amount, arguments.account) != 1:
                    raise LookupError(f"there is no account {arguments.account} at {name}")
        except (grpc.RpcError, LookupError) as error:
            reason = error.details() if isinstance(error, grpc.RpcError) else str(error)
            request = coordinator.RollbackRequest(gtid=begun.gtid, secret=begun.secret, reason=reason[:200])
            until(deadline, lambda: stub.Rollback(request, timeout=arguments.timeout))
            print(f"outcome: aborted ({reason})")
            return 1
        kind, text = commit(stub, begun, branches)
        print(f"outcome: {kind}" + (f" ({text})" if text else ""))
        return 0 if kind == "committed" else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coordinator", required=True, help="HOST:PORT, http://HOST:PORT or unix:/PATH")
    parser.add_argument("--from", required=True, dest="source", help="the participant that pays")
    parser.add_argument("--to", required=True, dest="target", help="the participant that is paid")
    parser.add_argument("--amount", required=True, type=int)
    parser.add_argument("--account", default=1, type=int, help="the id in table account, at both")
    parser.add_argument("--timeout", default=30.0, type=float, help="of the transaction, in seconds")
    parser.add_argument("--proto", default=REPOSITORY / "proto", help="where votum/v1/*.proto are")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as generated:
        modules = compile_contract(parsed.proto, generated)
        common, _, coordinator, coordinator_grpc, participant, participant_grpc, *_ = modules
        try:
            sys.exit(transfer(parsed))
        except grpc.RpcError as error:
            sys.exit(f"the coordinator at {parsed.coordinator} did not answer as it should: {error.details()}")
