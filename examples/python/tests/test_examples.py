"""The examples and the snippets of the README run, for real."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from locksidecar import Client
from tests.conftest import PATIENCE, Sidecar, eventually

HERE = Path(__file__).resolve().parents[1]
SNIPPETS = re.findall(r"^```python\n(.*?)^```", (HERE / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def environment(sidecar: Sidecar) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(HERE), "LOCKSIDECAR_ENDPOINT": sidecar.endpoint, "PYTHONUNBUFFERED": "1"}


def run(sidecar: Sidecar, *command: str, code: int = 0) -> str:
    """Runs a program to its end and returns what it printed."""
    done = subprocess.run([sys.executable, *command], env=environment(sidecar), cwd=HERE, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@contextmanager
def running(sidecar: Sidecar, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a program that is ended by the test."""
    with subprocess.Popen([sys.executable, *command], env=environment(sidecar), cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        guard = threading.Timer(PATIENCE, process.kill)
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    out: IO[str] | None = process.stdout
    assert out is not None
    return out.readline().strip()


@pytest.mark.parametrize("text", SNIPPETS, ids=lambda text: str(SNIPPETS.index(text)))
def test_the_snippets_of_the_readme(sidecar: Sidecar, text: str) -> None:
    run(sidecar, "-c", text)


def test_the_readme_has_snippets_of_every_kind() -> None:
    assert len(SNIPPETS) >= 5


def test_counter(sidecar: Sidecar, tmp_path: Path) -> None:
    assert run(sidecar, "examples/counter.py", "--file", str(tmp_path / "n"), "--count", "25") == "100 increments of 100\n"


def test_leader(sidecar: Sidecar) -> None:
    with running(sidecar, "examples/leader.py", "--name", "one") as one, Client(sidecar.endpoint) as client:
        assert line(one).startswith("one leads with token")
        with running(sidecar, "examples/leader.py", "--name", "two") as two:
            eventually("the second waits", lambda: len(client.get("leader").waiters) == 1)
            client.force_release("leader", client.get("leader").holders[0].fencing_token, "test")
            assert line(one) == "one does not lead any more: forced"
            assert line(two).startswith("two leads with token")
            two.send_signal(signal.SIGTERM)
            assert line(two) == "two steps down" and two.wait(PATIENCE) == 0
        assert line(one).startswith("one leads with token")
        one.send_signal(signal.SIGTERM)
        assert line(one) == "one steps down" and one.wait(PATIENCE) == 0


def test_cron(sidecar: Sidecar, tmp_path: Path) -> None:
    ran, state = tmp_path / "ran", tmp_path / "state"
    job = ["examples/cron.py", "--state", str(state), "--", sys.executable, "-c"]
    due = [*job[:1], "--slot", "2026-01-31T02:00", *job[1:]]
    touch = f"open({str(ran)!r}, 'a').write('x')"
    run(sidecar, *due, touch)
    assert run(sidecar, *due, touch) == "done already\n"
    assert ran.read_text() == "x"

    later = [*job[:1], "--slot", "2026-02-01T02:00", *job[1:]]
    with running(sidecar, *later, "input()"), Client(sidecar.endpoint) as client:
        eventually("it runs", lambda: bool(client.get("cron/nightly").holders))
        assert run(sidecar, *later, touch).startswith("runs on ")
    with Client(sidecar.endpoint) as client:
        eventually("the job that was killed holds nothing", lambda: not client.get("cron/nightly").holders)
    assert ran.read_text() == "x"
    run(sidecar, *later, "raise SystemExit(3)", code=3)
    assert state.read_text() == "2026-01-31T02:00"


def test_cron_stops_the_job_of_a_lost_lease(sidecar: Sidecar, tmp_path: Path) -> None:
    command = ["examples/cron.py", "--slot", "1", "--state", str(tmp_path / "state"), "--", sys.executable, "-c"]
    with running(sidecar, *command, "import time; time.sleep(600)") as job, Client(sidecar.endpoint) as client:
        eventually("it runs", lambda: bool(client.get("cron/nightly").holders))
        client.force_release("cron/nightly", client.get("cron/nightly").holders[0].fencing_token, "test")
        assert job.wait(PATIENCE) == 75
        assert not (tmp_path / "state").exists()


def test_guarded_write(sidecar: Sidecar, tmp_path: Path) -> None:
    out = run(sidecar, "examples/guarded_write.py", "--database", str(tmp_path / "db"))
    assert re.fullmatch(r"refused: alice: the token \d+ is stale\nbalance 70\n", out)


def post(url: str) -> tuple[int, dict[str, str]]:
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    request = urllib.request.Request(url, method="POST", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_web(sidecar: Sidecar, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "uvicorn", "--app-dir", "examples", "--port", "0", "web:app"]
    with log.open("w") as out, subprocess.Popen(command, env=environment(sidecar), cwd=HERE, stdout=out, stderr=out) as server:
        try:
            eventually("uvicorn listens", lambda: "http://" in log.read_text())
            url = re.findall(r"http://[\d.:]+", log.read_text())[0]
            status, first = post(f"{url}/reports/sales")
            assert status == 200 and first["report"] == "sales"
            slow: list[tuple[int, dict[str, str]]] = []
            thread = threading.Thread(target=lambda: slow.append(post(f"{url}/reports/sales?seconds=600")))
            thread.start()
            with Client(sidecar.endpoint) as client:
                eventually("the slow one works", lambda: bool(client.get("reports/sales").holders))
                holder = client.get("reports/sales").holders[0]
                assert holder.metadata["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c")
                status, held = post(f"{url}/reports/sales")
                assert (status, held["reason"]) == (409, "LOCK_HELD")
                client.force_release("reports/sales", holder.fencing_token, "test")
                thread.join(PATIENCE)
                assert slow and slow[0][0] == 409 and slow[0][1]["reason"] == "LEASE_LOST", log.read_text()
            status, last = post(f"{url}/reports/sales")
            assert status == 200 and int(last["token"]) > int(first["token"])
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(PATIENCE)


def test_the_package_is_installed_with_its_types_and_stubs(tmp_path: Path) -> None:
    end = time.monotonic() + PATIENCE
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "to")]
    copy = tmp_path / "from"
    subprocess.run(["cp", "-r", str(HERE / "locksidecar"), str(HERE / "pyproject.toml"), str(HERE / "README.md"), "."], cwd=_made(copy), check=True)
    subprocess.run([*command, "."], cwd=copy, check=True, timeout=end - time.monotonic())
    installed = {p.relative_to(tmp_path / "to" / "locksidecar").as_posix() for p in (tmp_path / "to" / "locksidecar").rglob("*")}
    assert {"py.typed", "aio.py", "v1/lock_pb2.py", "v1/lock_pb2.pyi", "v1/lock_pb2_grpc.py"} <= installed


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
