"""What a client has under way: one Hold stream, the leases on it, and what waits for an answer.

One thread opens the stream, reads it, and opens it again when it breaks; a lease that stands is adopted on the new
stream, an acquire or release that was not answered is sent again under its request id. Another thread looks at the
clock. Both start with the first acquire. An engine belongs to one process: in a forked one it must not be touched.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

from locksidecar import _clock
from locksidecar._lease import BaseLease
from locksidecar._pending import L, Leaving, Make, Pending
from locksidecar._request import Traceparent, check_wait, jitter, trace
from locksidecar._stream import Stream, dial
from locksidecar._timers import Timers
from locksidecar.errors import (
    Cancelled, Draining, Invalid, LeaseLost, LimitExceeded, LocksidecarError, NotOwner, PermissionDenied, StaleToken,
    Unavailable, Unsupported, from_message, from_rpc,
)
from locksidecar.hooks import Hooks, guarded
from locksidecar.v1 import lock_pb2, lock_pb2_grpc

R = TypeVar("R")

_CLOSING = 2.0  # seconds that a close waits for the sidecar's answers

_UNDONE = 16  # how often an acquire is made anew because the sidecar undid its grant

# What a repeated release is told of a lease that it has ended before, if other ends have come since.
_FORGOTTEN = ("unknown", "released")

# Ends of a stream that a new stream would not better.
_FINAL = (PermissionDenied, Unsupported, LimitExceeded, Invalid)


class Engine:
    """The state of one client in one process. Safe for use by many threads."""

    def __init__(self, endpoint: str, patience: float, hooks: Hooks, traceparent: Traceparent | None) -> None:
        self.pid = os.getpid()
        self.patience = patience
        self.traceparent = traceparent
        self._hooks = hooks
        self._channel = dial(endpoint)
        self.lock_stub = lock_pb2_grpc.LockServiceStub(self._channel)
        self.admin_stub = lock_pb2_grpc.AdminServiceStub(self._channel)
        self._timers = Timers()
        self._mutex = threading.Lock()
        self._wanted = threading.Condition(self._mutex)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        # Guarded by the mutex, as is the state of the leases:
        self._closed = False
        self._stream: Stream | None = None
        self._silent_since: float | None = None
        self._pending: dict[str, Pending[Any]] = {}
        self._leases: dict[str, BaseLease] = {}
        self._leaving: dict[str, Leaving] = {}
        self._adopting: set[tuple[str, int]] = set()
        self._calls: list[Callable[[], None]] = []

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds the mutex; what is to be called without it is called after it."""
        try:
            with self._mutex:
                yield
        finally:
            while self._calls:
                with self._mutex:
                    calls, self._calls = self._calls, []
                for call in calls:
                    guarded(call)

    # What applications ask for.

    def acquire(self, request: lock_pb2.AcquireRequest, wait: float | None, make: Make[L]) -> Pending[L]:
        """Asks for a lease; the future of what is returned gets it. ValueError for a wait that is none."""
        check_wait(wait)
        with self._locked():
            if self._closed:
                raise Cancelled("the client is closed")
            pending = Pending(request, wait, make)
            self._pending[request.request_id] = pending
            if pending.deadline is not None:
                self._timers.at(pending.deadline + self.patience, lambda: self._overdue(pending))
            self._post(self._acquire_message(pending))
            self._start()
        return pending

    def abandon(self, pending: Pending[Any]) -> None:
        """Gives an acquire up: its place in the queue, or the lease that it was just granted."""
        with self._locked():
            request = pending.request
            lease = self._leases.get(request.request_id)
            if lease is not None:
                self._leave(lease)
            elif self._pending.pop(request.request_id, None) is not None:
                self._undo(request)

    def release(self, lease: BaseLease) -> Future[None]:
        """Ends a hold. The future gets the outcome: LeaseLost if the lease was lost before."""
        self.expire(lease)
        with self._locked():
            if lease._released:
                return _done()
            loss = None if lease._lost_reason is None else lease._loss()
            leaving = self._leave(lease)
        # A lost lease's release is the acknowledgement; nobody waits for its answer.
        return leaving.future if loss is None else _done(loss)

    def expire(self, lease: BaseLease) -> None:
        """Has the clock say that a lease is lost, if it does."""
        with self._locked():
            if self._leases.get(lease._message.request_id) is lease and _clock.now() >= lease._valid_until:
                self._lose(lease, "expired")

    def close(self) -> None:
        """Releases every lease, gives every acquire up and ends the stream."""
        with self._locked():
            if self._closed:
                return
            self._closed = True
            for pending in list(self._pending.values()):
                self._undo(pending.request)
                self._fail(pending, Cancelled("the client was closed"))
            for lease in list(self._leases.values()):
                self._lose(lease, "closed")
                self._leaves(_release(lease))
            stream, thread = self._stream, self._thread
            self._stopping.set()
            self._wanted.notify_all()
            if stream is not None:
                stream.half_close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING)
        if stream is not None:
            stream.cancel()
        self._timers.stop()
        self._channel.close()
        with self._locked():
            for leaving in list(self._leaving.values()):
                self._answer(leaving, Cancelled("the client was closed"))

    def call(self, method: Callable[..., R], request: object) -> R:
        """Makes a call that answers at once, and repeats it while the sidecar is not there, for as long as the patience."""
        end, tries = _clock.now() + self.patience, 0
        while True:
            try:
                return method(request, timeout=self.patience, metadata=trace(self.traceparent))
            except grpc.RpcError as error:
                failure = from_rpc(error)
            pause = jitter(tries, max(1.0, failure.retry_after))
            if not isinstance(failure, Unavailable) or _clock.now() + pause > end or self._stopping.wait(pause):
                raise failure
            tries += 1

    # The stream.

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="locksidecar-stream", daemon=True)
            self._thread.start()
        self._wanted.notify_all()

    def _run(self) -> None:
        tries = 0
        while (stream := self._open()) is not None:
            error = stream.read(lambda event: self._event(stream, event))
            tries = 0 if stream.spoke else tries + 1
            self._broken(stream, error)
            self._stopping.wait(jitter(tries))

    def _open(self) -> Stream | None:
        """Opens a stream once there is a use for one; None when the client is closed."""
        metadata = trace(self.traceparent)
        with self._locked():
            while not self._closed and not (self._pending or self._leases or self._leaving):
                self._wanted.wait()
            if self._closed:
                return None
            self._stream = stream = Stream(self.lock_stub, metadata)
            for leaving in self._leaving.values():
                self._send_release(leaving)
            for lease in list(self._leases.values()):
                self._adopt(lease)
            for pending in self._pending.values():
                stream.send(self._acquire_message(pending))
            return stream

    def _broken(self, stream: Stream, error: grpc.RpcError | None) -> None:
        failure = from_rpc(error) if error is not None else Unavailable("the sidecar ended the stream")
        with self._locked():
            now = _clock.now()
            self._stream = None
            self._adopting.clear()
            for lease in self._leases.values():
                lease._attached = False
            if stream.spoke or self._silent_since is None:
                self._silent_since = now
            since = self._silent_since
            for pending in list(self._pending.values()):
                if isinstance(failure, _FINAL):
                    self._fail(pending, failure)
                elif now - max(since, pending.started) >= self.patience:
                    self._fail(pending, failure if isinstance(failure, Unavailable) else Unavailable(str(failure)))

    def _post(self, request: lock_pb2.HoldRequest) -> None:
        """Sends, if there is a stream; a new one starts with all that is under way."""
        if self._stream is not None:
            self._stream.send(request)

    def _acquire_message(self, pending: Pending[Any]) -> lock_pb2.HoldRequest:
        request = pending.request
        lease_id = ""
        if request.reentrant and request.owner_id:
            for lease in self._leases.values():
                if lease._message.lock_id == request.lock_id and lease._message.owner_id == request.owner_id:
                    lease_id = lease._message.lease_id
        return pending.message(lease_id)

    # Events.

    def _event(self, stream: Stream, event: lock_pb2.HoldResponse) -> None:
        kind = event.WhichOneof("event")
        with self._locked():
            if stream is not self._stream:
                return
            self._silent_since = None
            pending = self._pending.get(event.request_id)
            lease = self._leases.get(event.request_id)
            leaving = self._leaving.get(event.request_id)
            if kind == "queued" and pending is not None:
                self._tell_waiting(pending, event.queued)
            elif kind == "granted" and pending is not None:
                self._granted(pending, event.granted)
            elif kind == "granted" and lease is not None:
                self._attached(lease, event.granted)
            elif kind == "renewed" and lease is not None:
                self._prolong(lease, event.renewed)
            elif kind == "at_risk" and lease is not None:
                lease._valid_until = max(lease._valid_until, _clock.valid_until(event.at_risk))
            elif kind == "lost" and lease is not None:
                self._lose(lease, event.lost.reason)
            elif kind == "released" and leaving is not None:
                self._answer(leaving, None)
            elif kind == "released" and pending is not None:
                self._fail(pending, Draining("the sidecar gave the acquire up"))
            elif kind == "error":
                failure = from_message(event.error)
                if leaving is not None:
                    self._release_failed(leaving, failure)
                elif pending is not None:
                    self._acquire_failed(pending, failure)
                elif lease is not None:
                    self._adopt_failed(lease, failure)

    def _granted(self, pending: Pending[Any], message: lock_pb2.Lease) -> None:
        request = pending.request
        del self._pending[request.request_id]
        lease = pending.make(message, request)
        self._leases[request.request_id] = lease
        self._watch(lease)
        self._calls.append(lambda: pending.future.set_result(lease))
        self._tell_acquired(pending, "granted")

    def _acquire_failed(self, pending: Pending[Any], failure: LocksidecarError) -> None:
        """Tries again what was certainly not done, for as long as the wait and the patience last."""
        now = _clock.now()
        again = now + jitter(pending.tries, max(1.0, failure.retry_after))
        if pending.tries == 0:
            pending.refused = now
        end = pending.refused + self.patience
        if pending.deadline is not None:
            end = min(end, pending.deadline)
        pending.tries += 1
        if isinstance(failure, LeaseLost) and pending.tries <= _UNDONE:
            # The sidecar undid a grant that it could not tell, and the id with it.
            del self._pending[pending.request.request_id]
            pending.rename()
            self._pending[pending.request.request_id] = pending
            self._post(self._acquire_message(pending))
            return
        if not isinstance(failure, Unavailable) or again > end:
            self._fail(pending, failure)
            return
        self._timers.at(again, lambda: self._acquire_again(pending))

    def _acquire_again(self, pending: Pending[Any]) -> None:
        with self._locked():
            if self._pending.get(pending.request.request_id) is pending:
                self._post(self._acquire_message(pending))

    def _overdue(self, pending: Pending[Any]) -> None:
        """Ends an acquire that a silent sidecar does not answer."""
        with self._locked():
            if self._pending.get(pending.request.request_id) is pending:
                self._undo(pending.request)
                self._fail(pending, Unavailable("the sidecar did not answer"))

    def _fail(self, pending: Pending[Any], failure: LocksidecarError) -> None:
        self._pending.pop(pending.request.request_id, None)
        self._calls.append(lambda: pending.future.set_exception(failure))
        self._tell_acquired(pending, failure.reason)

    # Leases.

    def _prolong(self, lease: BaseLease, message: lock_pb2.Lease) -> None:
        lease._message = message
        lease._valid_until = max(lease._valid_until, _clock.valid_until(message))

    def _watch(self, lease: BaseLease) -> None:
        """Looks at the lease when its time is over, unless it was prolonged."""
        self._timers.at(lease._valid_until, lambda: self._look(lease))

    def _look(self, lease: BaseLease) -> None:
        with self._locked():
            if self._leases.get(lease._message.request_id) is not lease:
                return
            if _clock.now() >= lease._valid_until:
                self._lose(lease, "expired")
            else:
                self._watch(lease)

    def _lose(self, lease: BaseLease, reason: str) -> None:
        """LOST is final: the lease is not prolonged or adopted any more."""
        self._leases.pop(lease._message.request_id, None)
        if lease._lost_reason is not None or lease._released:
            return
        lease._lost_reason = reason
        self._calls.append(lease._on_lost)
        if (hook := self._hooks.lost) is not None:
            self._calls.append(lambda: hook(lease._message.lock_id, reason))

    def _adopt(self, lease: BaseLease) -> None:
        """Attaches the stream to a lease that was held on an earlier one.

        Of a lease with several holds one is adopted after the other: each adoption fences the one before it.
        """
        message = lease._message
        key = (message.lock_id, message.fencing_token)
        if key in self._adopting or lease._attached or self._leases.get(message.request_id) is not lease:
            return
        self._adopting.add(key)
        request = lock_pb2.AdoptRequest(
            lock_id=message.lock_id, lease_id=message.lease_id, fencing_token=message.fencing_token,
            request_id=message.request_id, ttl=message.ttl,
        )
        if (left := lease._max_hold_left()) is not None:
            request.max_hold.FromNanoseconds(left)
        self._post(lock_pb2.HoldRequest(adopt=request))

    def _adopt_next(self, message: lock_pb2.Lease) -> None:
        self._adopting.discard((message.lock_id, message.fencing_token))
        for lease in list(self._leases.values()):
            if lease._message.lock_id == message.lock_id and lease._message.fencing_token == message.fencing_token:
                self._adopt(lease)

    def _attached(self, lease: BaseLease, message: lock_pb2.Lease) -> None:
        self._prolong(lease, message)
        lease._attached = True
        self._adopt_next(message)

    def _adopt_failed(self, lease: BaseLease, failure: LocksidecarError) -> None:
        message, stream = lease._message, self._stream
        if isinstance(failure, (LeaseLost, NotOwner, StaleToken)):
            self._lose(lease, failure.details.get("cause", "unknown"))
            self._adopt_next(message)
            return

        def again() -> None:
            with self._locked():
                if self._stream is stream:
                    self._adopt_next(message)

        # Its own valid-until ends this.
        self._timers.at(_clock.now() + jitter(3), again)

    # Releases.

    def _leave(self, lease: BaseLease) -> Leaving:
        """Sends a lease's release. It is no lease of the engine any more."""
        lease._released = True
        self._leases.pop(lease._message.request_id, None)
        return self._leaves(_release(lease))

    def _undo(self, request: lock_pb2.AcquireRequest) -> None:
        """Gives back whatever an acquire may have got."""
        self._leaves(lock_pb2.ReleaseRequest(lock_id=request.lock_id, request_id=request.request_id))

    def _leaves(self, request: lock_pb2.ReleaseRequest) -> Leaving:
        leaving = Leaving(request, _clock.now() + self.patience)
        self._leaving[request.request_id] = leaving
        self._timers.at(leaving.until, lambda: self._give_up(leaving))
        self._send_release(leaving)
        self._wanted.notify_all()
        return leaving

    def _send_release(self, leaving: Leaving) -> None:
        if self._stream is not None:
            leaving.sent += 1
            self._stream.send(lock_pb2.HoldRequest(release=leaving.request))

    def _release_failed(self, leaving: Leaving, failure: LocksidecarError) -> None:
        again = _clock.now() + jitter(leaving.sent)
        if leaving.sent > 1 and isinstance(failure, LeaseLost) and failure.details.get("cause") in _FORGOTTEN:
            self._answer(leaving, None)  # it was done the first time, when the lease stood
            return
        if not isinstance(failure, Unavailable) or again >= leaving.until:
            self._answer(leaving, failure)
            return
        self._timers.at(again, lambda: self._release_again(leaving))

    def _release_again(self, leaving: Leaving) -> None:
        with self._locked():
            if self._leaving.get(leaving.request.request_id) is leaving:
                self._send_release(leaving)

    def _give_up(self, leaving: Leaving) -> None:
        with self._locked():
            self._answer(leaving, Unavailable("the sidecar did not answer the release; the lease ends by its TTL"))

    def _answer(self, leaving: Leaving, failure: LocksidecarError | None) -> None:
        if self._leaving.pop(leaving.request.request_id, None) is not leaving:
            return
        if failure is None:
            self._calls.append(lambda: leaving.future.set_result(None))
        else:
            self._calls.append(lambda: leaving.future.set_exception(failure))

    # Hooks.

    def _tell_acquired(self, pending: Pending[Any], outcome: str) -> None:
        if (hook := self._hooks.acquired) is not None:
            took = _clock.now() - pending.started
            self._calls.append(lambda: hook(pending.request.lock_id, outcome, took))

    def _tell_waiting(self, pending: Pending[Any], queued: lock_pb2.Queued) -> None:
        if (hook := self._hooks.waiting) is not None:
            self._calls.append(lambda: hook(pending.request.lock_id, queued.position, queued.queue_length))


def _release(lease: BaseLease) -> lock_pb2.ReleaseRequest:
    message = lease._message
    return lock_pb2.ReleaseRequest(
        lock_id=message.lock_id, lease_id=message.lease_id, fencing_token=message.fencing_token, request_id=message.request_id,
    )


def _done(failure: LocksidecarError | None = None) -> Future[None]:
    future: Future[None] = Future()
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(failure)
    return future
