"""What every lease is, whatever waits for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from locksidecar import _clock
from locksidecar.errors import Forked, LeaseLost
from locksidecar.v1 import lock_pb2

if TYPE_CHECKING:
    from locksidecar._engine import Engine


class BaseLease:
    """One hold of a lease on a lock. The sidecar renews it until it is released or lost.

    It may be used from any thread of the process that acquired it, and from no other process.
    """

    def __init__(self, engine: Engine, message: lock_pb2.Lease, request: lock_pb2.AcquireRequest) -> None:
        self._engine = engine
        self._pid = os.getpid()
        self._request = request
        self._since = _clock.now()
        # The engine changes what follows, under its mutex.
        self._message = message
        self._valid_until = _clock.valid_until(message)
        self._attached = True
        self._released = False
        self._lost_reason: str | None = None
        self._watchers: list[Callable[[], None]] = []

    @property
    def lock_id(self) -> str:
        """The lock's id."""
        return self._message.lock_id

    @property
    def fencing_token(self) -> int:
        """The number to give to the protected resource with every write."""
        return self._message.fencing_token

    @property
    def lease_id(self) -> str:
        """The secret that proves the lease."""
        return self._message.lease_id

    @property
    def owner_id(self) -> str:
        """The owner that others see."""
        return self._message.owner_id

    @property
    def shared(self) -> bool:
        """Whether it is a read lock."""
        return self._message.shared

    @property
    def hold_count(self) -> int:
        """How many acquires held the lease when it was granted or last renewed."""
        return self._message.hold_count

    @property
    def metadata(self) -> Mapping[str, str]:
        """What others see of it."""
        return dict(self._message.metadata)

    @property
    def ttl(self) -> float:
        """Seconds that the lease lasts unless it is renewed; more than asked for if the store rounded up."""
        return self._message.ttl.ToNanoseconds() / 1e9

    @property
    def attached(self) -> bool:
        """Whether a sidecar renews the lease: it is held on a stream that stands."""
        return self._attached and self.stands

    @property
    def released(self) -> bool:
        """Whether release was called."""
        return self._released

    @property
    def stands(self) -> bool:
        """Whether the lease may be relied on at this moment."""
        self._look()
        return not self._released and self._lost_reason is None

    @property
    def lost_reason(self) -> str | None:
        """Why the lease was lost (expired, forced, max_hold, …); None if it was not."""
        self._look()
        return self._lost_reason

    def remaining(self) -> float:
        """Seconds for which the lease may be relied on, 0 if it may not; renewals move it."""
        return max(0.0, self._valid_until - _clock.now()) if self.stands else 0.0

    def check(self) -> None:
        """Raises LeaseLost unless the lease stands. A process may pause after it looked: only the token is safe."""
        if not self.stands:
            raise self._loss()

    def _look(self) -> None:
        """Looks at the clock, which may say first that the lease is lost."""
        self._own()
        if not self._released and self._lost_reason is None and _clock.now() >= self._valid_until:
            self._engine.expire(self)

    def _loss(self) -> LeaseLost:
        cause = self._lost_reason or "released"
        return LeaseLost(f"the lease on {self.lock_id!r} does not stand any more: {cause}", {"cause": cause})

    def _max_hold_left(self) -> int | None:
        """Nanoseconds that are left of the longest hold; None if it has no bound."""
        if not self._request.HasField("max_hold"):
            return None
        return max(1, self._request.max_hold.ToNanoseconds() - round((_clock.now() - self._since) * 1e9))

    def _on_lost(self) -> None:
        """Tells those who wait for the loss."""
        for watcher in tuple(self._watchers):
            watcher()

    def _own(self) -> None:
        if self._pid != os.getpid():
            raise Forked(f"the lease on {self.lock_id!r} is that of the process {self._pid}, from which this one was forked")

    def __repr__(self) -> str:
        state = "released" if self._released else self._lost_reason or "held"
        return f"<{type(self).__module__}.{type(self).__name__} {self.lock_id!r} token={self.fencing_token} {state}>"
