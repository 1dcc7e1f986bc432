"""A Hold stream: the sidecar renews what is held on it, for as long as it is open."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Iterator

import grpc

from locksidecar.v1 import lock_pb2, lock_pb2_grpc


class NotGranted(Exception):
    """The lock was refused, or the lease was lost before it was used."""


def dial(endpoint: str, patience: float = 10.0) -> grpc.Channel:
    """Connects to a sidecar's socket and waits up to patience seconds for it."""
    channel = grpc.insecure_channel(endpoint, options=[("grpc.default_authority", "localhost")])
    grpc.channel_ready_future(channel).result(timeout=patience)
    return channel


class Holder:
    """One stream that holds locks. Its methods are for one thread."""

    def __init__(self, stub: lock_pb2_grpc.LockServiceStub) -> None:
        self._requests: queue.SimpleQueue[lock_pb2.HoldRequest | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[lock_pb2.HoldResponse | None] = queue.SimpleQueue()
        self._stream = stub.Hold(iter(self._requests.get, None))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for event in self._stream:
                self._events.put(event)
        except grpc.RpcError:
            pass  # the end of the stream is the news
        self._events.put(None)

    def events(self) -> Iterator[lock_pb2.HoldResponse]:
        """Yields the stream's events until it ends."""
        while (event := self._events.get()) is not None:
            yield event

    def poll(self) -> lock_pb2.HoldResponse | None:
        """Returns an event that has arrived, or None."""
        try:
            return self._events.get_nowait()
        except queue.Empty:
            return None

    def acquire(self, lock_id: str, ttl: float) -> lock_pb2.Lease:
        """Waits until the lock is granted."""
        request = lock_pb2.AcquireRequest(lock_id=lock_id, request_id=uuid.uuid4().hex)
        request.ttl.FromMilliseconds(int(ttl * 1000))
        self._requests.put(lock_pb2.HoldRequest(acquire=request))
        for event in self.events():
            kind = event.WhichOneof("event")
            if kind == "granted":
                return event.granted
            if kind in ("error", "lost"):
                raise NotGranted(event)
        raise NotGranted("the stream ended")

    def release(self, lease: lock_pb2.Lease) -> None:
        """Gives the lease back and waits for the answer."""
        self._requests.put(lock_pb2.HoldRequest(release=lock_pb2.ReleaseRequest(
            lock_id=lease.lock_id, lease_id=lease.lease_id, fencing_token=lease.fencing_token, request_id=lease.request_id)))
        for event in self.events():
            kind = event.WhichOneof("event")
            if kind == "released":
                return
            if kind in ("error", "lost"):
                raise NotGranted(event)
        raise NotGranted("the stream ended")

    def close(self) -> None:
        """Ends the stream, which releases what is still held."""
        self._stream.cancel()


def remaining(lease: lock_pb2.Lease) -> float:
    """Seconds for which the lease, as it was granted, may be relied on."""
    return lease.valid_until_boottime_ns / 1e9 - time.clock_gettime(time.CLOCK_BOOTTIME)
