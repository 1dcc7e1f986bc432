"""Locks for threads."""

from __future__ import annotations

import atexit
import concurrent.futures
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from locksidecar import _base
from locksidecar._base import BaseClient
from locksidecar._engine import Engine
from locksidecar._lease import BaseLease
from locksidecar._pending import Pending
from locksidecar._request import acquire_request
from locksidecar.errors import Forked, LeaseLost, LockHeld, Unavailable
from locksidecar.hooks import log
from locksidecar.v1 import lock_pb2


class Lease(BaseLease):
    """A lease for threads. As a context manager it is released at the end of the block."""

    def __init__(self, engine: Engine, message: lock_pb2.Lease, request: lock_pb2.AcquireRequest) -> None:
        super().__init__(engine, message, request)
        #: Set when the lease is lost, and then for good.
        self.lost = threading.Event()
        self._watchers.append(self.lost.set)

    def release(self) -> None:
        """Gives the lease back and waits for the answer. Raises LeaseLost if it was lost; a second call does nothing."""
        self._own()
        self._engine.release(self).result()

    def __enter__(self) -> Lease:
        self.check()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Literal[False]:
        try:
            self.release()
        except Unavailable as unanswered:
            log.warning("%s", unanswered)  # the body ran under the lock
        except (LeaseLost, Forked) as failure:
            if error is None:
                raise
            note(error, failure)
        return False


class Acquiring:
    """An acquire under way, which another thread may wait for or give up."""

    def __init__(self, engine: Engine, pending: Pending[Lease]) -> None:
        self._engine = engine
        self._pending = pending

    def result(self, timeout: float | None = None) -> Lease:
        """Waits for the lease. TimeoutError if it takes longer than timeout seconds; the acquire then goes on."""
        self._own()
        try:
            return self._pending.future.result(timeout)
        except concurrent.futures.TimeoutError as error:  # not the built-in one before Python 3.11
            raise TimeoutError(f"{self._pending.request.lock_id!r} was not granted within {timeout} s") from error

    def done(self) -> bool:
        """Whether it was answered."""
        return self._pending.future.done()

    def cancel(self) -> None:
        """Gives it up: it leaves the queue, and a lease that was just granted is given back."""
        self._own()
        self._engine.abandon(self._pending)

    def _own(self) -> None:
        if self._engine.pid != os.getpid():
            raise Forked(f"the acquire of {self._pending.request.lock_id!r} is that of the process {self._engine.pid}")


def note(error: BaseException, failure: Exception) -> None:
    """Leaves the body's own error as it is, and says what else happened."""
    if hasattr(error, "add_note") and error is not failure:
        error.add_note(f"locksidecar: {failure}")


@dataclass(frozen=True)
class Options:
    """How a lock is acquired; the same for threads and asyncio."""

    lock_id: str
    ttl: float | None
    wait: float | None
    shared: bool
    reentrant: bool
    priority: int
    owner: str | None
    metadata: Mapping[str, str] | None
    max_hold: float | None
    token_floor: int

    def request(self) -> lock_pb2.AcquireRequest:
        """A new acquire."""
        return acquire_request(
            self.lock_id, ttl=self.ttl, shared=self.shared, reentrant=self.reentrant, priority=self.priority,
            owner=self.owner, metadata=self.metadata, max_hold=self.max_hold, token_floor=self.token_floor,
        )


class Lock:
    """A lock by its name. `with` acquires and releases it; acquire, release and locked are those of threading.Lock.

    Each thread may enter it; a reentrant lock, which needs an owner, may be entered again.
    """

    def __init__(self, client: Client, options: Options) -> None:
        self._client = client
        self._options = options
        self._entered = threading.local()
        self._guard = threading.Lock()
        self._acquired: list[Lease] = []

    @property
    def lock_id(self) -> str:
        """The lock's id."""
        return self._options.lock_id

    def __enter__(self) -> Lease:
        lease = self._client._acquire(self._options, self._options.wait)
        self._stack().append(lease)
        return lease

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Literal[False]:
        lease = self._stack().pop()
        return lease.__exit__(kind, error, trace)

    def _stack(self) -> list[Lease]:
        if not hasattr(self._entered, "leases"):
            self._entered.leases = []
        leases: list[Lease] = self._entered.leases
        return leases

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquires the lock, and reports whether it did: not at all if not blocking, for at most timeout seconds if one is given."""
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        wait = 0.0 if not blocking else None if timeout == -1 else timeout
        try:
            lease = self._client._acquire(self._options, wait)
        except LockHeld as held:
            if held.details.get("held_by_self") == "true":
                raise  # waiting longer would not help
            return False
        with self._guard:
            self._acquired.append(lease)
        return True

    def release(self) -> None:
        """Releases the latest acquire of any thread. RuntimeError if there is none, LeaseLost if the lease was lost."""
        with self._guard:
            if not self._acquired:
                raise RuntimeError("release of a lock that was not acquired")
            lease = self._acquired.pop()
        lease.release()

    def locked(self) -> bool:
        """Whether anybody holds the lock, in this process or another."""
        return bool(self._client.get(self.lock_id).holders)

    @property
    def lease(self) -> Lease | None:
        """The lease of the latest acquire that was not released."""
        with self._guard:
            return self._acquired[-1] if self._acquired else None


class Client(BaseClient):
    """A client for threads. Use one for the whole process and close it at the end.

    endpoint is unix:///path; left out, the sidecar's usual places are looked at. patience bounds, in seconds, the time
    for which a sidecar that is not there is waited for. traceparent returns the W3C traceparent of the work
    at hand, which is passed on with every call, and with every acquire as an entry of its metadata.
    """

    def lock(
        self,
        lock_id: str,
        *,
        ttl: float | None = None,
        wait: float | None = None,
        shared: bool = False,
        reentrant: bool = False,
        priority: int = 0,
        owner: str | None = None,
        metadata: Mapping[str, str] | None = None,
        max_hold: float | None = None,
        token_floor: int = 0,
    ) -> Lock:
        """A lock that is acquired by `with`. All times are in seconds.

        ttl: how long the lease lasts if nobody renews it (1 to 60, 15 if left out). wait: how long to wait for it; 0
        not at all, None until it is granted. shared: a read lock. reentrant: the same owner may acquire it again.
        priority: 0 to 9. owner and metadata are shown to others. max_hold: the longest time that the lease is renewed.
        token_floor: the fencing token is at least this.
        """
        return Lock(self, Options(lock_id, ttl, wait, shared, reentrant, priority, owner, metadata, max_hold, token_floor))

    def read_lock(self, lock_id: str, *, ttl: float | None = None, wait: float | None = None) -> Lock:
        """A lock that readers share."""
        return self.lock(lock_id, ttl=ttl, wait=wait, shared=True)

    def acquire(
        self,
        lock_id: str,
        *,
        ttl: float | None = None,
        wait: float | None = None,
        shared: bool = False,
        reentrant: bool = False,
        priority: int = 0,
        owner: str | None = None,
        metadata: Mapping[str, str] | None = None,
        max_hold: float | None = None,
        token_floor: int = 0,
    ) -> Lease:
        """Acquires a lease, which is to be released; the options are those of lock. Raises LockHeld if the wait ran out."""
        options = Options(lock_id, ttl, wait, shared, reentrant, priority, owner, metadata, max_hold, token_floor)
        return self._acquire(options, wait)

    def begin(
        self,
        lock_id: str,
        *,
        ttl: float | None = None,
        wait: float | None = None,
        shared: bool = False,
        reentrant: bool = False,
        priority: int = 0,
        owner: str | None = None,
        metadata: Mapping[str, str] | None = None,
        max_hold: float | None = None,
        token_floor: int = 0,
    ) -> Acquiring:
        """Begins an acquire and returns at once; the options are those of lock."""
        options = Options(lock_id, ttl, wait, shared, reentrant, priority, owner, metadata, max_hold, token_floor)
        return self._begin(options, wait)

    def _begin(self, options: Options, wait: float | None) -> Acquiring:
        engine = self._engine()
        pending = engine.acquire(self._traced(options.request()), wait, lambda message, request: Lease(engine, message, request))
        return Acquiring(engine, pending)

    def _acquire(self, options: Options, wait: float | None) -> Lease:
        acquiring = self._begin(options, wait)
        try:
            return acquiring.result()
        except BaseException:  # such as KeyboardInterrupt
            acquiring.cancel()
            raise

    def get(self, lock_id: str) -> lock_pb2.Lock:
        """The lock's holders and waiters; a free lock has none."""
        return self._get(lock_id)

    def force_release(self, lock_id: str, fencing_token: int, reason: str, *, immediate: bool = False) -> lock_pb2.ForceReleaseResponse:
        """Revokes another's lease: it is told, and the lock passes on when it has let go, with immediate at once."""
        return self._force_release(lock_id, fencing_token, reason, immediate)

    def close(self) -> None:
        """Releases every lease of this client and ends its connection."""
        self._close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _close_at_exit() -> None:
    """Gives back what a process leaves at its end; a forked one has nothing but its own."""
    for client in list(_base._clients):
        client._close()


atexit.register(_close_at_exit)
