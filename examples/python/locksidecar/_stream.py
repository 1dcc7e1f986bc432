"""One Hold stream, from its opening to its end."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence

import grpc

from locksidecar.v1 import lock_pb2, lock_pb2_grpc

_SILENCE_MS = 65_000

_OPTIONS: Sequence[tuple[str, str | int]] = (
    # The path of a Unix socket is no host name.
    ("grpc.default_authority", "localhost"),
    # gRPC ends the calls of a connection that it gives up, and an ended call is what asks the sidecar to release: a
    # sidecar that only stood still would release on its return. So a silent one is given up only when no lease can
    # stand any more: none lasts for more than 60 s. Before that each lease ends by its own clock.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", _SILENCE_MS),
    ("grpc.http2.ping_timeout_ms", _SILENCE_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # The pauses between attempts are this package's own; gRPC's come on top.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.enable_retries", 0),
    # A channel is never shared with a forked process, nor between clients.
    ("grpc.use_local_subchannel_pool", 1),
)


def dial(endpoint: str) -> grpc.Channel:
    """A channel to the sidecar's socket; it connects with the first call."""
    return grpc.insecure_channel(endpoint, options=_OPTIONS)


class Stream:
    """A Hold call. Requests may be sent from any thread; one thread reads."""

    def __init__(self, stub: lock_pb2_grpc.LockServiceStub, metadata: Sequence[tuple[str, str]]) -> None:
        self._requests: queue.SimpleQueue[lock_pb2.HoldRequest | None] = queue.SimpleQueue()
        self._call = stub.Hold(iter(self._requests.get, None), metadata=(("locksidecar-renewals", "1"), *metadata))
        #: Whether the sidecar has sent anything on it.
        self.spoke = False

    def send(self, request: lock_pb2.HoldRequest) -> None:
        self._requests.put(request)

    def half_close(self) -> None:
        """Sends no more; the sidecar ends the stream when nothing is left to tell."""
        self._requests.put(None)

    def cancel(self) -> None:
        """Ends the stream, by which the sidecar releases what is still held on it."""
        self._call.cancel()

    def read(self, on_event: Callable[[lock_pb2.HoldResponse], None]) -> grpc.RpcError | None:
        """Passes the events on until the stream ends, and returns what ended it."""
        try:
            for event in self._call:
                self.spoke = True
                on_event(event)
        except grpc.RpcError as error:
            return error
        finally:
            self._requests.put(None)  # ends the thread that waits for requests
        return None
