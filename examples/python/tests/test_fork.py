"""Processes that fork: each program runs in a process of its own, since its fork must be that of a fresh one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path

import pytest

from locksidecar import Client
from tests.conftest import PATIENCE, Sidecar, eventually

HERE = Path(__file__).resolve().parents[1]

# Runs what a child does and exits as Python does: with atexit and the collection of what is left.
PRELUDE = """
import asyncio, atexit, gc, multiprocessing, os, signal, sys, threading
{first}
from locksidecar import Client, Forked, aio
endpoint = sys.argv[1]

def child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        work()
        gc.collect()
        sys.exit(0)
    return pid

def ends_well(pid):
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, f"the child ended with {code}"
"""


def run(sidecar: Sidecar, program: str, first: str = "", **environment: str) -> None:
    """Runs a program, whose assertions are the test's."""
    text = PRELUDE.replace("{first}", first) + textwrap.dedent(program)
    env = {k: v for k, v in os.environ.items() if k != "GRPC_ENABLE_FORK_SUPPORT"}
    env |= {"PYTHONPATH": str(HERE), **environment}
    command = [sys.executable, "-c", text, sidecar.endpoint]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True) as process:
        try:
            out, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the group is the program's own
            pytest.fail(f"the program hangs; it printed:\n{process.communicate()[0]}")
    assert process.returncode == 0, out


def test_a_child_neither_uses_nor_releases_its_parents_lease(sidecar: Sidecar) -> None:
    run(sidecar, """
        client = Client(endpoint)
        lease = client.acquire("parent", ttl=30)
        waiting = client.begin("parent")

        def work():
            for use in (lease.check, lease.remaining, lease.release, lambda: lease.stands, waiting.cancel, waiting.result):
                try:
                    use()
                except Forked:
                    continue
                raise AssertionError("the parent's lease was used")
            assert lease.fencing_token > 0  # what it was may be told

        for _ in range(2):
            ends_well(child(work))
        lease.check()
        assert lease.attached and client.get("parent").holders[0].fencing_token == lease.fencing_token
        lease.release()
        waiting.result(30).release()
        client.close()
    """)


def test_a_block_that_forks_is_left_by_the_parent_alone(sidecar: Sidecar) -> None:
    run(sidecar, """
        client = Client(endpoint)
        try:
            with client.lock("parent", ttl=30) as lease:
                pid = os.fork()
                if pid:
                    ends_well(pid)
                    lease.check()
                    assert client.get("parent").holders[0].fencing_token == lease.fencing_token
        except Forked:
            assert not pid
            sys.exit(0)
        assert pid, "the child left the block without an error"
        assert not client.get("parent").holders
    """)


def test_children_use_the_client_afresh_while_the_parent_holds(sidecar: Sidecar) -> None:
    run(sidecar, """
        client = Client(endpoint)
        lease = client.acquire("parent", ttl=30)

        def work():
            for _ in range(10):
                with client.lock("shared", ttl=10) as mine:
                    mine.check()
            assert client.get("parent").holders[0].fencing_token == lease.fencing_token
            client.close()

        children = [child(work) for _ in range(3)]
        for _ in range(10):
            with client.lock("shared", ttl=10):
                pass
        for pid in children:
            ends_well(pid)
        lease.check()
        lease.release()
    """)


def test_a_child_that_dies_frees_what_is_its_own(sidecar: Sidecar) -> None:
    run(sidecar, """
        client = Client(endpoint)
        lease = client.acquire("parent", ttl=30)
        ready, told = os.pipe()

        def work():
            client.acquire("child", ttl=60)
            os.write(told, b"x")
            signal.pause()

        pid = child(work)
        os.read(ready, 1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        client.acquire("child", wait=30).release()
        lease.check()
    """)


def test_the_fork_start_method_of_multiprocessing(sidecar: Sidecar) -> None:
    run(sidecar, """
        client = Client(endpoint)
        lock = client.lock("counter", ttl=10)

        def work(path):
            for _ in range(20):
                with lock:
                    n = int(open(path).read())
                    with open(path, "w") as f:
                        f.write(str(n + 1))

        import tempfile
        with tempfile.NamedTemporaryFile("w", delete=False) as f:
            f.write("0")
        with lock:
            processes = [multiprocessing.get_context("fork").Process(target=work, args=(f.name,)) for _ in range(3)]
            for p in processes:
                p.start()
        work(f.name)
        for p in processes:
            p.join()
            assert p.exitcode == 0
        assert open(f.name).read() == "80"
        os.unlink(f.name)
    """)


def test_asyncio_in_parent_and_children(sidecar: Sidecar) -> None:
    run(sidecar, """
        client = aio.Client(endpoint)

        async def once(name):
            async with client.lock(name, ttl=10) as lease:
                lease.check()

        def work():
            asyncio.run(once("shared"))

        async def main():
            async with client.lock("parent", ttl=30) as lease:
                pid = os.fork()
                if pid == 0:
                    os._exit(5 if isinstance(await look(lease), type(None)) else 0)
                ends_well(pid)
                lease.check()

        async def look(lease):
            try:
                lease.check()
            except Forked as refused:
                return refused

        asyncio.run(main())
        pids = [child(work) for _ in range(2)]
        asyncio.run(once("shared"))
        for pid in pids:
            ends_well(pid)
    """)


def test_grpc_that_was_imported_first_refuses_instead_of_hanging(sidecar: Sidecar) -> None:
    run(sidecar, """
        client = Client(endpoint)
        lease = client.acquire("parent", ttl=30)

        def work():
            try:
                client.get("parent")
            except Forked as refused:
                assert "GRPC_ENABLE_FORK_SUPPORT" in str(refused)
                return
            raise AssertionError("it must refuse")

        ends_well(child(work))
        lease.check()
        assert client.get("parent").holders[0].fencing_token == lease.fencing_token
        os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "1"  # too late, and no matter
        lease.release()
    """, first="import grpc")


def test_grpc_that_was_told_may_be_imported_first(sidecar: Sidecar) -> None:
    run(sidecar, """
        client = Client(endpoint)
        lease = client.acquire("parent", ttl=30)
        ends_well(child(lambda: client.acquire("child", ttl=10)))
        lease.release()
    """, first="import grpc", GRPC_ENABLE_FORK_SUPPORT="1")


APP = """
import os
from locksidecar import Client
client = Client()
leader = client.acquire("master", ttl=30)  # before the fork: preload

def app(environ, start_response):
    with client.lock("requests", ttl=10) as lease:
        body = f"{os.getpid()} {lease.fencing_token} {leader.fencing_token}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_gunicorn_that_loads_the_application_before_it_forks(sidecar: Sidecar, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    path = tmp_path / "http.sock"
    env = os.environ | {"PYTHONPATH": f"{HERE}:{tmp_path}", "LOCKSIDECAR_ENDPOINT": sidecar.endpoint}
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "3", "--bind", "127.0.0.1:0", "app:app"]
    log = tmp_path / "log"
    with log.open("wb") as out, subprocess.Popen(command, env=env, cwd=tmp_path, stdout=out, stderr=out, start_new_session=True) as master:
        try:
            eventually("gunicorn's workers have started", lambda: log.read_text().count("Booting worker") >= 3)
            url = next(w for line in log.read_text().splitlines() for w in line.split() if w.startswith("http://"))
            seen: dict[str, int] = {}

            def answered() -> bool:
                with urllib.request.urlopen(url, timeout=PATIENCE) as response:
                    pid, token, _ = response.read().decode().split()
                seen[pid] = seen.get(pid, 0) + 1
                return len(seen) >= 2

            eventually("several workers have answered", answered)
            with Client(sidecar.endpoint) as client:
                token = client.get("master").holders[0].fencing_token
                worker = int(next(iter(seen)))
                os.kill(worker, signal.SIGTERM)  # its end must not release the master's lease
                eventually("another took its place", lambda: log.read_text().count("Booting worker") >= 4)
                assert client.get("master").holders[0].fencing_token == token
                master.send_signal(signal.SIGTERM)
                master.wait(PATIENCE)
                client.acquire("master", wait=PATIENCE).release()
        except BaseException:
            print(log.read_text())
            raise
        finally:
            if master.poll() is None:
                os.killpg(master.pid, signal.SIGKILL)  # the group is gunicorn's own
