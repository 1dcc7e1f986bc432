"""An acquire's options as the sidecar takes them."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Mapping

from locksidecar.errors import LimitExceeded
from locksidecar.v1 import lock_pb2

#: Returns the W3C traceparent of the work at hand, or None.
Traceparent = Callable[[], "str | None"]

#: The largest acquire, in bytes: what a sidecar takes by default. One that is much larger ends the stream, and with it
#: whatever else is held on it.
_LARGEST = 64 * 1024

#: The longest duration, in seconds: some thirty years.
_LONGEST = 1e9

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def trace(provider: Traceparent | None) -> tuple[tuple[str, str], ...]:
    """The traceparent as a call's metadata; nothing if there is none or it is malformed."""
    value = provider() if provider is not None else None
    return (("traceparent", value),) if value is not None and _TRACEPARENT.fullmatch(value) else ()


def jitter(tries: int, most: float = 1.0) -> float:
    """Seconds to pause before the next try: anything up to a bound that doubles with each (full jitter)."""
    return random.uniform(0.0, min(most, 0.05 * 2.0 ** min(tries, 16)))


def new_request_id() -> str:
    """A secret that names one acquire and its repeats."""
    return uuid.uuid4().hex


def nanoseconds(name: str, seconds: float) -> int:
    """Seconds as the sidecar takes them. ValueError if they are no duration."""
    if not -_LONGEST <= seconds <= _LONGEST:  # also no NaN
        raise ValueError(f"{name} is {seconds}, want seconds, at most {_LONGEST:.0f}")
    return round(seconds * 1e9)


def check_wait(wait: float | None) -> None:
    """ValueError unless it is a time to wait."""
    if wait is not None and not 0 <= wait <= _LONGEST:
        raise ValueError(f"wait is {wait}, want seconds from 0 to {_LONGEST:.0f}, or None to wait until the lock is granted")


def acquire_request(
    lock_id: str,
    *,
    ttl: float | None,
    shared: bool,
    reentrant: bool,
    priority: int,
    owner: str | None,
    metadata: Mapping[str, str] | None,
    max_hold: float | None,
    token_floor: int,
) -> lock_pb2.AcquireRequest:
    """An acquire under a request id of its own, by which it can be repeated."""
    request = lock_pb2.AcquireRequest(
        lock_id=lock_id, owner_id=owner or "", shared=shared, reentrant=reentrant, priority=priority,
        metadata=metadata, token_floor=token_floor, request_id=new_request_id(),
    )
    if ttl is not None:
        request.ttl.FromNanoseconds(nanoseconds("ttl", ttl))
    if max_hold is not None:
        request.max_hold.FromNanoseconds(nanoseconds("max_hold", max_hold))
    if (size := request.ByteSize()) > _LARGEST:
        raise LimitExceeded(f"the request has {size} bytes; allowed: at most {_LARGEST}", {"limit": "message"})
    return request
