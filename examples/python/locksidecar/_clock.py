"""The clock by which leases are counted: it runs through suspend where the system has such a clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from locksidecar.v1 import lock_pb2

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def now() -> float:
    """Seconds on the host's boot-time clock, or on the monotonic one where there is none."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


def valid_until(message: lock_pb2.Lease | lock_pb2.AtRisk) -> float:
    """The instant of now() until which a lease may be relied on.

    The sidecar's instant is on the same clock of the same host. Should it be on another one (a time namespace), the
    length of time that it told bounds it.
    """
    by_length = now() + message.valid_for.ToNanoseconds() / 1e9
    return by_length if _BOOTTIME is None else min(by_length, message.valid_until_boottime_ns / 1e9)
