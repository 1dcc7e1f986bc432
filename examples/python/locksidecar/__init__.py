"""Distributed locks from a locksidecar socket.

    from locksidecar import Client

    with Client() as client:
        with client.lock("nightly", ttl=10, wait=0) as lease:
            store(report, fencing_token=lease.fencing_token)

A lock is an advisory lease. The block runs only with the lock, and ends with LeaseLost if the lease was lost on the
way; what makes the work safe is the fencing token, which the protected resource compares with the highest that it has
seen. `locksidecar.aio` has the same for asyncio.
"""

from __future__ import annotations

import os as _os
import sys as _sys

# gRPC must know before it is imported that the process may fork.
_grpc_came_first = "grpc" in _sys.modules and "GRPC_ENABLE_FORK_SUPPORT" not in _os.environ
_os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

from locksidecar.client import Acquiring, Client, Lease, Lock  # noqa: E402
from locksidecar.errors import (  # noqa: E402
    BackendUnavailable,
    BreakerOpen,
    Cancelled,
    DeadlineExceeded,
    Deadlock,
    Draining,
    Forked,
    Internal,
    Invalid,
    InvalidRequest,
    InvalidRequestId,
    LeaseLost,
    LimitExceeded,
    LockHeld,
    LocksidecarError,
    NewerFormat,
    NotOwner,
    OutcomeUnknown,
    NoRoute,
    NoSuchWaiter,
    PermissionDenied,
    Quarantined,
    StaleToken,
    Unavailable,
    Unsupported,
)
from locksidecar.hooks import Hooks  # noqa: E402

__all__ = [
    "Acquiring",
    "BackendUnavailable",
    "BreakerOpen",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "Deadlock",
    "Draining",
    "Forked",
    "Hooks",
    "Internal",
    "Invalid",
    "InvalidRequest",
    "InvalidRequestId",
    "Lease",
    "LeaseLost",
    "LimitExceeded",
    "Lock",
    "LockHeld",
    "LocksidecarError",
    "NewerFormat",
    "NotOwner",
    "OutcomeUnknown",
    "NoRoute",
    "NoSuchWaiter",
    "PermissionDenied",
    "Quarantined",
    "StaleToken",
    "Unavailable",
    "Unsupported",
]
