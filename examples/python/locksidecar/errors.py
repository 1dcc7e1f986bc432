"""One exception for each reason that a sidecar gives.

Decide by the class or by `reason`, never by the text. `details` are what the sidecar tells besides, such as the holder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2

from locksidecar.v1 import lock_pb2


class LocksidecarError(Exception):
    """Any failure that this package reports."""

    REASON: ClassVar[str] = ""

    def __init__(self, message: str, details: Mapping[str, str] | None = None, *, reason: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message)
        #: The reason's name, the same in every language.
        self.reason = reason or self.REASON
        #: What the sidecar tells besides.
        self.details = dict(details or {})
        #: Seconds after which the sidecar advises to try again; 0 if it does not.
        self.retry_after = retry_after


class LockHeld(LocksidecarError):
    """The lock is held, or others wait for it; also when a bounded wait ran out."""

    REASON = "LOCK_HELD"


class LeaseLost(LocksidecarError):
    """The lease does not stand any more; `details["cause"]` says why."""

    REASON = "LEASE_LOST"


class NotOwner(LocksidecarError):
    """The lease stands under another lease_id."""

    REASON = "NOT_OWNER"


class StaleToken(LocksidecarError):
    """The fencing token is not this lease's."""

    REASON = "STALE_TOKEN"


class NoSuchWaiter(LocksidecarError):
    """No place in the queue has this ticket any more."""

    REASON = "NO_SUCH_WAITER"


class Deadlock(LocksidecarError):
    """Waiting would have been a deadlock, and this request was chosen to break it."""

    REASON = "DEADLOCK"


class Unavailable(LocksidecarError):
    """The sidecar, or the store behind it, cannot be reached; nothing was done."""

    REASON = "UNAVAILABLE"


class BackendUnavailable(Unavailable):
    """The store cannot be reached; nothing was done."""

    REASON = "BACKEND_UNAVAILABLE"


class BreakerOpen(Unavailable):
    """The store failed repeatedly and is given a pause; nothing was done."""

    REASON = "BREAKER_OPEN"


class Quarantined(Unavailable):
    """The store may have lost leases and grants nothing until the longest must have ended."""

    REASON = "QUARANTINED"


class Draining(Unavailable):
    """The sidecar is stopping."""

    REASON = "DRAINING"


class NewerFormat(LocksidecarError):
    """The lock's record was written by a newer version of locksidecar."""

    REASON = "NEWER_FORMAT"


class OutcomeUnknown(LocksidecarError):
    """It may have been done or not. An acquire that is not repeated is undone."""

    REASON = "OUTCOME_UNKNOWN"


class Invalid(LocksidecarError):
    """A field is not valid; `reason` names it (INVALID_TTL), `details["limits"]` says what is."""

    REASON = "INVALID_…"


class InvalidRequest(Invalid):
    """The request cannot be read."""

    REASON = "INVALID_REQUEST"


class InvalidRequestId(Invalid):
    """The lease has several holds: the one to release must be named."""

    REASON = "INVALID_REQUEST_ID"


class NoRoute(Invalid):
    """The sidecar's configuration leads this lock to no store."""

    REASON = "NO_ROUTE"


class Unsupported(LocksidecarError):
    """The store cannot do this."""

    REASON = "UNSUPPORTED"


class PermissionDenied(LocksidecarError):
    """This process may not do this."""

    REASON = "PERMISSION_DENIED"


class LimitExceeded(LocksidecarError):
    """A limit was reached; `details["limit"]` names it."""

    REASON = "LIMIT_EXCEEDED"


class Cancelled(LocksidecarError):
    """The caller left, or the client was closed."""

    REASON = "CANCELLED"


class DeadlineExceeded(LocksidecarError):
    """The deadline of the call passed."""

    REASON = "DEADLINE_EXCEEDED"


class Internal(LocksidecarError):
    """An error of the sidecar itself; its log says more."""

    REASON = "INTERNAL"


class Forked(LocksidecarError):
    """A lease, or what belongs to it, was used in a process forked from the one that holds it."""

    REASON = "FORKED"


def _classes(of: type[LocksidecarError]) -> Iterable[type[LocksidecarError]]:
    for cls in of.__subclasses__():
        yield cls
        yield from _classes(cls)


_BY_REASON = {cls.REASON: cls for cls in _classes(LocksidecarError)}

_BY_CODE: dict[int, type[LocksidecarError]] = {
    code.value[0]: cls
    for code, cls in {
        grpc.StatusCode.UNAVAILABLE: Unavailable,
        grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
        grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceeded,
        grpc.StatusCode.UNIMPLEMENTED: Unsupported,
        grpc.StatusCode.CANCELLED: Cancelled,
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
        grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    }.items()
}


def from_message(error: lock_pb2.Error) -> LocksidecarError:
    """The exception for an error that a sidecar sent."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in error.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    cls = _BY_REASON.get(info.reason)
    if cls is None:
        cls = Invalid if info.reason.startswith("INVALID_") else _BY_CODE.get(error.code, Internal)
    return cls(error.message, info.metadata, reason=info.reason, retry_after=retry.retry_delay.ToNanoseconds() / 1e9)


def from_rpc(error: grpc.RpcError) -> LocksidecarError:
    """The exception for a call that failed, whether a sidecar answered or none did."""
    status = lock_pb2.Error()
    if isinstance(error, grpc.Call):
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin" and isinstance(value, bytes):
                try:
                    status.ParseFromString(value)
                except DecodeError:
                    status.Clear()
        if status.code == 0:
            status.code = error.code().value[0]
            status.message = error.details() or "the sidecar does not answer"
    return from_message(status)
