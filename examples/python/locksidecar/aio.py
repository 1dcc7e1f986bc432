"""Locks for asyncio.

The connection is read on a thread of its own, so that a busy event loop delays no loss: `lease.check()` knows of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

from locksidecar._base import BaseClient
from locksidecar._engine import Engine
from locksidecar._lease import BaseLease
from locksidecar.client import Options, note
from locksidecar.errors import Forked, LeaseLost, LockHeld, Unavailable
from locksidecar.hooks import log
from locksidecar.v1 import lock_pb2

__all__ = ["Client", "Lease", "Lock"]


class Lease(BaseLease):
    """A lease for the tasks of one event loop. As a context manager it is released at the end of the block."""

    def __init__(
        self, engine: Engine, message: lock_pb2.Lease, request: lock_pb2.AcquireRequest, loop: asyncio.AbstractEventLoop, cancel_on_loss: bool
    ) -> None:
        super().__init__(engine, message, request)
        self._loop = loop
        self._cancels = cancel_on_loss
        #: Set when the lease is lost, and then for good.
        self.lost = asyncio.Event()
        self._body: asyncio.Task[Any] | None = None
        self._cancelled = False
        self._watchers.append(self._tell)

    def _tell(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told)

    def _told(self) -> None:
        self.lost.set()
        if self._body is not None and not self._cancelled:
            self._cancelled = True
            self._body.cancel()

    async def release(self) -> None:
        """Gives the lease back and waits for the answer. Raises LeaseLost if it was lost; a second call does nothing."""
        self._own()
        await asyncio.wrap_future(self._engine.release(self))

    async def __aenter__(self) -> Lease:
        self.check()
        if self._cancels:
            self._body = asyncio.current_task()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Literal[False]:
        others = await self._settle(error)
        try:
            await self.release()
        except Unavailable as unanswered:
            log.warning("%s", unanswered)  # the body ran under the lock
        except (LeaseLost, Forked) as failure:
            if error is None or isinstance(error, asyncio.CancelledError) and self._cancelled and not others:
                raise failure from None
            note(error, failure)
        return False

    async def _settle(self, error: BaseException | None) -> bool:
        """Takes back the cancellation by which the loss ended the body; reports whether another one was asked for."""
        task, self._body = self._body, None
        if task is None or not self._cancelled:
            return False
        if not isinstance(error, asyncio.CancelledError):
            try:
                await asyncio.sleep(0)  # it may not have been delivered yet
            except asyncio.CancelledError:
                pass
        uncancel = getattr(task, "uncancel", None)  # Python 3.11
        return uncancel is not None and uncancel() > 0


class Lock:
    """A lock by its name. `async with` acquires and releases it; acquire, release and locked are those of asyncio.Lock."""

    def __init__(self, client: Client, options: Options, cancel_on_loss: bool) -> None:
        self._client = client
        self._options = options
        self._cancels = cancel_on_loss
        self._entered: dict[asyncio.Task[Any] | None, list[Lease]] = {}
        self._acquired: list[Lease] = []

    @property
    def lock_id(self) -> str:
        """The lock's id."""
        return self._options.lock_id

    async def __aenter__(self) -> Lease:
        lease = await self._client._acquire(self._options, self._options.wait, self._cancels)
        self._entered.setdefault(asyncio.current_task(), []).append(lease)
        return await lease.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Literal[False]:
        task = asyncio.current_task()
        leases = self._entered[task]
        lease = leases.pop()
        if not leases:
            del self._entered[task]
        return await lease.__aexit__(kind, error, trace)

    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Acquires the lock, and reports whether it did: not at all if not blocking, for at most timeout seconds if one is given."""
        try:
            lease = await self._client._acquire(self._options, timeout if blocking else 0.0, False)
        except LockHeld as held:
            if held.details.get("held_by_self") == "true":
                raise  # waiting longer would not help
            return False
        self._acquired.append(lease)
        return True

    async def release(self) -> None:
        """Releases the latest acquire. RuntimeError if there is none, LeaseLost if the lease was lost."""
        if not self._acquired:
            raise RuntimeError("release of a lock that was not acquired")
        await self._acquired.pop().release()

    async def locked(self) -> bool:
        """Whether anybody holds the lock, in this process or another."""
        return bool((await self._client.get(self.lock_id)).holders)

    @property
    def lease(self) -> Lease | None:
        """The lease of the latest acquire that was not released."""
        return self._acquired[-1] if self._acquired else None


class Client(BaseClient):
    """A client for asyncio. Use one for the whole process and close it at the end.

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
        cancel_on_loss: bool = False,
    ) -> Lock:
        """A lock that is acquired by `async with`; the options are those of locksidecar.Client.lock.

        cancel_on_loss: the loss of the lease cancels the body, and the block raises LeaseLost.
        """
        options = Options(lock_id, ttl, wait, shared, reentrant, priority, owner, metadata, max_hold, token_floor)
        return Lock(self, options, cancel_on_loss)

    def read_lock(self, lock_id: str, *, ttl: float | None = None, wait: float | None = None, cancel_on_loss: bool = False) -> Lock:
        """A lock that readers share."""
        return self.lock(lock_id, ttl=ttl, wait=wait, shared=True, cancel_on_loss=cancel_on_loss)

    async def acquire(
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
        """Acquires a lease, which is to be released. A task that is cancelled while it waits leaves the queue."""
        options = Options(lock_id, ttl, wait, shared, reentrant, priority, owner, metadata, max_hold, token_floor)
        return await self._acquire(options, wait, False)

    async def _acquire(self, options: Options, wait: float | None, cancel_on_loss: bool) -> Lease:
        engine, loop = self._engine(), asyncio.get_running_loop()
        pending = engine.acquire(
            self._traced(options.request()), wait, lambda message, request: Lease(engine, message, request, loop, cancel_on_loss)
        )
        try:
            return await asyncio.wrap_future(pending.future)
        except BaseException:
            engine.abandon(pending)
            raise

    async def get(self, lock_id: str) -> lock_pb2.Lock:
        """The lock's holders and waiters; a free lock has none."""
        return await asyncio.to_thread(self._get, lock_id)

    async def force_release(self, lock_id: str, fencing_token: int, reason: str, *, immediate: bool = False) -> lock_pb2.ForceReleaseResponse:
        """Revokes another's lease: it is told, and the lock passes on when it has let go, with immediate at once."""
        return await asyncio.to_thread(self._force_release, lock_id, fencing_token, reason, immediate)

    async def close(self) -> None:
        """Releases every lease of this client and ends its connection."""
        await asyncio.to_thread(self._close)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
