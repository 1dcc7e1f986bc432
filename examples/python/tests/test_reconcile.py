"""What the job table takes for the truth when events are missing."""

from __future__ import annotations

import importlib.util
import json
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reconcile", Path(__file__).resolve().parents[1] / "examples" / "reconcile.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reconcile"] = module  # its dataclasses look for it
    spec.loader.exec_module(module)
    return module


reconcile = load()


@contextmanager
def answering(path: Path, answer: Callable[[str], tuple[int, str]]) -> Iterator[str]:
    """A socket that gives the answers which a sidecar gives in trouble."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

        def get_request(self) -> Any:
            request, _ = super().get_request()
            return request, ("local", 0)

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown()
            thread.join()


MISSED = {"id": "missed-1", "type": "dev.locksidecar.events.missed", "data": {"missed": "3"}}


def granted(table: Any, name: str, token: int) -> None:
    table.take({
        "id": f"acquired-{token}-jobs/{name}", "type": "dev.locksidecar.lock.granted", "subject": f"jobs/{name}",
        "data": {"fencing_token": str(token), "owner_id": "worker"},
    })


def page(*locks: tuple[str, int], **more: Any) -> str:
    return json.dumps({"locks": [{"lock_id": f"jobs/{name}", "holders": [{"fencing_token": str(token)}]} for name, token in locks], **more})


@pytest.mark.parametrize(
    "status, body",
    [
        (503, '{"error":{"code":"UNAVAILABLE"}}'),
        (403, "{}"),
        (500, ""),
        (200, page(failed=["main"])),
        (200, "<html>"),
    ],
)
def test_an_error_is_not_that_nothing_is_held(tmp_path: Path, status: int, body: str) -> None:
    table = reconcile.Table()
    granted(table, "nightly", 7)
    handler = reconcile.Handler.__new__(reconcile.Handler)
    handler.table = table
    assert table.take(MISSED)
    with answering(tmp_path / "s", lambda _: (status, body)) as sidecar, pytest.raises(OSError):
        handler.compare(MISSED, sidecar)
    job = table.jobs["nightly"]
    assert (job.state, job.token, job.requeued) == ("running", 7, 0)
    assert table.take(MISSED) and table.missed == 3  # it comes again, and counts once


def test_what_is_granted_after_the_answer_goes_on(tmp_path: Path) -> None:
    table = reconcile.Table()
    granted(table, "gone", 5)
    granted(table, "again", 6)
    granted(table, "held", 7)
    handler = reconcile.Handler.__new__(reconcile.Handler)
    handler.table = table

    def answer(path: str) -> tuple[int, str]:
        if "page_token=more" not in path:
            return 200, page(("unknown", 9), next_page_token="more")
        granted(table, "new", 10)
        granted(table, "again", 11)
        return 200, page(("held", 7))

    with answering(tmp_path / "s", answer) as sidecar:
        handler.compare(MISSED, sidecar)
    states = {name: (job.state, job.token, job.requeued) for name, job in table.jobs.items()}
    assert states == {
        "gone": ("queued", 5, 1),
        "again": ("running", 11, 0),
        "held": ("running", 7, 0),
        "new": ("running", 10, 0),
        "unknown": ("running", 9, 0),
    }
