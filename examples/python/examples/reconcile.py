"""A job table that reconciles itself from the events of sidecars.

Workers hold the lock jobs/NAME while they run the job NAME. Sidecars post their events
here (docs/events.md). A worker that releases its lock has done the job. One that dies
does not say so: its lease expires, and the job is queued again.

What comes may come twice, and from several sidecars in any order. So an event is
known by its id, and told older from newer by the fencing token: a token that has ended
never runs again, and what an older holder did changes nothing of a newer one.

    python examples/reconcile.py --listen 127.0.0.1:8080 [--token-file FILE] [--sidecar unix:///path]

POST / takes a CloudEvent, GET /jobs shows the table.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sys
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

PREFIX = "jobs/"
REMEMBERED = 100_000  # ids of events: more than can still be on their way
LARGEST = 64 * 1024  # bytes of an event


@dataclass
class Job:
    state: str = "queued"  # or running, done
    owner: str = ""
    token: int = 0  # of the latest holder
    ended: int = 0  # the highest token that has ended
    requeued: int = 0  # how many workers were lost


class Table:
    """The jobs. Its lock makes each event one step."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.jobs: dict[str, Job] = {}
        self.seen: OrderedDict[str, None] = OrderedDict()
        self.duplicates = 0
        self.missed = 0

    def take(self, event: dict[str, Any]) -> bool:
        """Takes an event; says whether events before it are missing."""
        with self.lock:
            if event["id"] in self.seen:
                self.duplicates += 1
                return False
            self.seen[event["id"]] = None
            if len(self.seen) > REMEMBERED:
                self.seen.popitem(last=False)
            if event["type"] == "dev.locksidecar.events.missed":
                self.missed += int(event["data"].get("missed", "0"))
                return True
            data, name = event["data"], event.get("subject", "")
            if name.startswith(PREFIX) and "fencing_token" in data:
                self.apply(name.removeprefix(PREFIX), event["type"].removeprefix("dev.locksidecar.lock."), data)
        return False

    def apply(self, name: str, kind: str, data: dict[str, Any]) -> None:
        token = int(data["fencing_token"])
        job = self.jobs.setdefault(name, Job())
        if kind in ("granted", "adopted"):
            if token > job.ended and token >= job.token:
                job.state, job.owner, job.token = "running", data.get("owner_id", ""), token
        elif kind == "released":
            if data["hold_count"] == 0:
                self.end(job, token, "done")
        elif kind in ("expired", "lost") or kind == "force_released" and data.get("ended"):
            if data.get("reason") != "reattached":  # the lease goes on, on another stream
                self.end(job, token, "queued")

    def end(self, job: Job, token: int, state: str) -> None:
        if token <= job.ended:
            return  # known: lost, and then expired, is one loss
        job.ended = token
        if token < job.token:
            return  # somebody newer runs it
        job.token, job.state, job.owner = token, state, ""
        if state == "queued":
            job.requeued += 1

    def running(self) -> dict[str, int]:
        """The jobs that run, with the tokens of their workers."""
        with self.lock:
            return {name: job.token for name, job in self.jobs.items() if job.state == "running"}

    def compare(self, before: dict[str, int], held: dict[str, int]) -> None:
        """Takes the locks that are held, because events are missing: of the jobs that ran
        before that was asked, those have ended whose worker does not hold its lock."""
        with self.lock:
            for name, token in held.items():
                self.apply(name, "granted", {"fencing_token": str(token)})
            for name, token in before.items():
                job = self.jobs[name]
                if job.state == "running" and job.token == token and held.get(name) != token:
                    self.end(job, token, "queued")

    def forget(self, event: dict[str, Any]) -> None:
        """Undoes what take did of an event of missing ones."""
        with self.lock:
            if event["id"] in self.seen:
                del self.seen[event["id"]]
                self.missed -= int(event["data"].get("missed", "0"))

    def show(self) -> dict[str, Any]:
        with self.lock:
            return {"jobs": {name: asdict(job) for name, job in self.jobs.items()}, "duplicates": self.duplicates, "missed": self.missed, "events": len(self.seen)}


def held(sidecar: str) -> dict[str, int]:
    """Asks a sidecar who holds which job, page by page.

    An OSError if it does not know: an error is not an empty list, and a backend that is
    down is missing from one.
    """
    found: dict[str, int] = {}
    page = ""
    while True:
        connection = http.client.HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(10)
        connection.sock.connect(sidecar.removeprefix("unix://"))
        try:
            connection.request("GET", f"/locks?prefix={PREFIX}&page_token={quote(page)}")
            response = connection.getresponse()
            body = response.read()
        except http.client.HTTPException as err:
            raise OSError(f"the sidecar does not answer: {err!r}") from err
        finally:
            connection.close()
        if response.status != 200:
            raise OSError(f"the sidecar answered {response.status}")
        try:
            answer = json.loads(body)
        except ValueError as err:
            raise OSError("the sidecar's answer is no JSON") from err
        if answer.get("failed"):
            raise OSError(f"not all backends answered: {answer['failed']}")
        for lock in answer.get("locks", []):
            for holder in lock.get("holders", []):
                found[lock["lock_id"].removeprefix(PREFIX)] = int(holder["fencing_token"])
        page = answer.get("next_page_token", "")
        if not page:
            return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    table: Table
    token: str | None = None
    sidecar: str | None = None
    timeout = 30

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/jobs":
            self.answer(200, json.dumps(self.table.show()).encode())
        else:
            self.answer(404)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        if length > LARGEST:
            self.close_connection = True
            self.answer(413)
            return
        body = self.rfile.read(length)
        if self.token is not None and self.headers.get("Authorization") != f"Bearer {self.token}":
            self.answer(401)
            return
        try:
            event = json.loads(body)
            if self.table.take(event) and self.sidecar is not None:
                self.compare(event, self.sidecar)
        except (ValueError, KeyError, TypeError):
            self.answer(400)
            return
        except OSError:
            self.answer(503)
            return
        self.answer(204)

    def compare(self, event: dict[str, Any], sidecar: str) -> None:
        before = self.table.running()  # what is granted after the answer is not in it
        try:
            self.table.compare(before, held(sidecar))
        except OSError:
            self.table.forget(event)  # it comes again
            raise

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description="A job table that reconciles itself from the events of sidecars.")
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    parser.add_argument("--token-file", help="a file with the bearer token that sidecars must send")
    parser.add_argument("--sidecar", help="unix:///path of one to ask when events are missing")
    args = parser.parse_args()
    Handler.table, Handler.sidecar = Table(), args.sidecar
    if args.token_file:
        with open(args.token_file, encoding="ascii") as f:
            Handler.token = f.read().strip()
    host, _, port = args.listen.rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    print(f"listening on http://{host}:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
