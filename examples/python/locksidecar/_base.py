"""What every client is: an endpoint, and the engine of this process."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import weakref
from pathlib import Path

from locksidecar._engine import Engine
from locksidecar._request import Traceparent, trace
from locksidecar.errors import Cancelled, Forked
from locksidecar.hooks import Hooks
from locksidecar.v1 import lock_pb2

_SERVE = "/run/locksidecar/api.sock"


def default_endpoint() -> str:
    """Where the sidecar is: LOCKSIDECAR_ENDPOINT, else the socket of `dev` if it is there, else that of `serve`."""
    if given := os.environ.get("LOCKSIDECAR_ENDPOINT"):
        return given
    runtime = os.environ.get("XDG_RUNTIME_DIR") or os.path.join(tempfile.gettempdir(), f"locksidecar-{os.getuid()}")
    dev = Path(runtime, "locksidecar", "api.sock")
    return f"unix://{dev if dev.exists() else _SERVE}"


class BaseClient:
    """A client of one sidecar. Each process that uses it has a connection and leases of its own."""

    def __init__(
        self, endpoint: str | None = None, *, patience: float = 10.0, hooks: Hooks | None = None, traceparent: Traceparent | None = None
    ) -> None:
        self.endpoint = endpoint or default_endpoint()
        if not self.endpoint.startswith("unix:"):
            raise ValueError(f"endpoint {self.endpoint!r}: want unix:///path/of/the/socket")
        self._patience = patience
        self._hooks = hooks or Hooks()
        self._traceparent = traceparent
        self._guard = threading.Lock()
        self._closed = False
        self._current: Engine | None = None
        self._inherited: list[Engine] = []
        _clients.add(self)

    def _engine(self) -> Engine:
        with self._guard:
            if self._closed:
                raise Cancelled("the client is closed")
            if self._current is None:
                if _forked and not _fork_support:
                    raise Forked("grpc was imported before locksidecar and cannot be used after a fork: set GRPC_ENABLE_FORK_SUPPORT=1")
                self._current = Engine(self.endpoint, self._patience, self._hooks, self._traceparent)
            return self._current

    def _traced(self, request: lock_pb2.AcquireRequest) -> lock_pb2.AcquireRequest:
        """The acquire with the traceparent of the work at hand: one stream carries acquires of many traces."""
        for key, value in trace(self._traceparent):
            if key not in request.metadata:
                request.metadata[key] = value
        return request

    def _close(self) -> None:
        with self._guard:
            self._closed = True
            engine, self._current = self._current, None
        if engine is not None:
            engine.close()

    def _get(self, lock_id: str) -> lock_pb2.Lock:
        engine = self._engine()
        lock: lock_pb2.Lock = engine.call(engine.lock_stub.Get, lock_pb2.GetRequest(lock_id=lock_id))
        return lock

    def _force_release(self, lock_id: str, fencing_token: int, reason: str, immediate: bool) -> lock_pb2.ForceReleaseResponse:
        engine = self._engine()
        request = lock_pb2.ForceReleaseRequest(lock_id=lock_id, fencing_token=fencing_token, reason=reason, immediate=immediate)
        answer: lock_pb2.ForceReleaseResponse = engine.call(engine.admin_stub.ForceRelease, request)
        return answer


_clients: weakref.WeakSet[BaseClient] = weakref.WeakSet()
_forked = False
# gRPC reads the variable when it is imported.
_fork_support = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "").lower() in ("1", "true", "yes", "y", "on") and not getattr(
    sys.modules.get("locksidecar"), "_grpc_came_first", False
)


def _after_fork_in_child() -> None:
    """Gives every client of this process a fresh start. What it inherited is never touched, only kept."""
    global _forked
    _forked = True
    for client in _clients:
        client._guard = threading.Lock()
        if client._current is not None:
            client._inherited.append(client._current)
            client._current = None


os.register_at_fork(after_in_child=_after_fork_in_child)
