"""What waits for an answer: acquires and releases."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from locksidecar import _clock
from locksidecar._lease import BaseLease
from locksidecar._request import new_request_id
from locksidecar.v1 import lock_pb2

L = TypeVar("L", bound=BaseLease)

#: Makes the lease of a grant.
Make = Callable[[lock_pb2.Lease, lock_pb2.AcquireRequest], L]


class Pending(Generic[L]):
    """An acquire that has not been answered."""

    def __init__(self, request: lock_pb2.AcquireRequest, wait: float | None, make: Make[L]) -> None:
        self.request = request
        self.make = make
        self.started = _clock.now()
        #: The end of a bounded wait.
        self.deadline = None if wait is None else self.started + wait
        #: When the sidecar first refused it for the moment, and how often it was sent again.
        self.refused = 0.0
        self.tries = 0
        self.future: Future[L] = Future()
        self.future.set_running_or_notify_cancel()  # nobody cancels it but the engine

    def rename(self) -> None:
        """Makes it another acquire, which is not a repeat of what was sent before."""
        self.request.request_id = new_request_id()

    def message(self, lease_id: str) -> lock_pb2.HoldRequest:
        """The request as it is sent now: with what is left of the wait."""
        request = lock_pb2.AcquireRequest()
        request.CopyFrom(self.request)
        request.lease_id = lease_id
        if self.deadline is not None:
            request.wait.FromNanoseconds(max(0, round((self.deadline - _clock.now()) * 1e9)))
        return lock_pb2.HoldRequest(acquire=request)


class Leaving:
    """A release that has not been answered."""

    def __init__(self, request: lock_pb2.ReleaseRequest, until: float) -> None:
        self.request = request
        #: When it is given up; the lease then ends by its TTL.
        self.until = until
        self.sent = 0
        self.future: Future[None] = Future()
        self.future.set_running_or_notify_cancel()
