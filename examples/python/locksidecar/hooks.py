"""What an application may hear of its locks, for metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger("locksidecar")


@dataclass(frozen=True)
class Hooks:
    """Functions that are called as things happen. They must be quick, and may be called on any thread."""

    #: lock id, "granted" or the reason of the failure, seconds from the request to the answer
    acquired: Callable[[str, str, float], None] | None = None
    #: lock id, position in the queue from 1, length of the queue
    waiting: Callable[[str, int, int], None] | None = None
    #: lock id, why the lease was lost
    lost: Callable[[str, str], None] | None = None


def guarded(call: Callable[[], None]) -> None:
    """Runs an application's function, whose failure is its own."""
    try:
        call()
    except Exception:
        log.exception("a hook failed")
