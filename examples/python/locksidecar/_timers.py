"""Calls at instants of the lease clock, on one thread."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from locksidecar._clock import now

# The thread's own waiting stands still while the host is suspended: it looks at the clock at least this often.
_LOOK = 1.0


class Timers:
    """Runs each call once its instant has come, at the earliest. The calls must not block."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Has call run at when, an instant of now()."""
        with self._changed:
            if self._stopped:
                return
            heapq.heappush(self._due, (when, next(self._serial), call))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="locksidecar-timers", daemon=True)
                self._thread.start()
            elif self._due[0][0] == when:
                self._changed.notify()

    def stop(self) -> None:
        """Forgets every call."""
        with self._changed:
            self._stopped = True
            self._due.clear()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopped and (not self._due or self._due[0][0] > now()):
                    self._changed.wait(min(_LOOK, self._due[0][0] - now()) if self._due else None)
                if self._stopped:
                    return
                call = heapq.heappop(self._due)[2]
            call()
