"""What goes over the wire beside the messages, seen by a server that writes it down."""

from __future__ import annotations

import queue
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from locksidecar import Client
from locksidecar.v1 import lock_pb2, lock_pb2_grpc
from tests.conftest import PATIENCE

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Recorder(lock_pb2_grpc.LockServiceServicer):
    """Grants every lock, and keeps what it was sent."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[dict[str, str | bytes]] = queue.SimpleQueue()
        self.acquires: queue.SimpleQueue[lock_pb2.AcquireRequest] = queue.SimpleQueue()
        self.breaks = 1

    def Hold(self, requests: Iterator[lock_pb2.HoldRequest], context: grpc.ServicerContext) -> Iterator[lock_pb2.HoldResponse]:
        self.calls.put(dict(context.invocation_metadata()))
        for request in requests:
            if request.HasField("release"):
                yield lock_pb2.HoldResponse(request_id=request.release.request_id, released=lock_pb2.ReleaseResponse())
                continue
            acquire = request.acquire
            self.acquires.put(acquire)
            if self.breaks > 0:
                self.breaks -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "once")
            lease = lock_pb2.Lease(
                lock_id=acquire.lock_id, lease_id="secret", fencing_token=7, request_id=acquire.request_id, valid_until_boottime_ns=1 << 62
            )
            lease.valid_for.FromSeconds(10)
            yield lock_pb2.HoldResponse(request_id=acquire.request_id, lock_id=acquire.lock_id, granted=lease)

    def Get(self, request: lock_pb2.GetRequest, context: grpc.ServicerContext) -> lock_pb2.Lock:
        self.calls.put(dict(context.invocation_metadata()))
        return lock_pb2.Lock(lock_id=request.lock_id)


@pytest.fixture
def recorder() -> Iterator[tuple[Recorder, str]]:
    with tempfile.TemporaryDirectory(prefix="lspy") as directory:
        server, r = grpc.server(ThreadPoolExecutor(4)), Recorder()
        lock_pb2_grpc.add_LockServiceServicer_to_server(r, server)
        endpoint = f"unix://{directory}/api.sock"
        server.add_insecure_port(endpoint)
        server.start()
        yield r, endpoint
        server.stop(None).wait(PATIENCE)


def test_the_traceparent_goes_with_calls_and_acquires_and_a_repeat_has_its_id(recorder: tuple[Recorder, str]) -> None:
    server, endpoint = recorder
    with Client(endpoint, traceparent=lambda: TRACE) as client:
        client.get("a")
        assert server.calls.get(timeout=PATIENCE)["traceparent"] == TRACE
        with client.lock("a", wait=30, metadata={"k": "v"}) as lease:
            assert lease.fencing_token == 7
        for _ in range(2):
            call = server.calls.get(timeout=PATIENCE)
            assert call["traceparent"] == TRACE and call["locksidecar-renewals"] == "1"
        first, again = server.acquires.get(timeout=PATIENCE), server.acquires.get(timeout=PATIENCE)
        assert first.metadata == {"k": "v", "traceparent": TRACE}
        assert len(first.request_id) == 32 and first.request_id == again.request_id
        assert 0 < again.wait.ToNanoseconds() < first.wait.ToNanoseconds() <= 30e9


@pytest.mark.parametrize("value", [None, "", "not a traceparent", TRACE + "\nx"])
def test_what_is_no_traceparent_is_not_passed_on(recorder: tuple[Recorder, str], value: str | None) -> None:
    server, endpoint = recorder
    server.breaks = 0
    with Client(endpoint, traceparent=lambda: value) as client:
        with client.lock("a"):
            assert "traceparent" not in server.acquires.get(timeout=PATIENCE).metadata
        assert "traceparent" not in server.calls.get(timeout=PATIENCE)
