"""The client for threads."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from locksidecar import Cancelled, Client, Hooks, LeaseLost, LimitExceeded, LockHeld
from tests.conftest import PATIENCE, Sidecar, eventually


@pytest.fixture
def client(sidecar: Sidecar) -> Iterator[Client]:
    with Client(sidecar.endpoint, patience=PATIENCE) as c:
        yield c


@pytest.fixture
def other(sidecar: Sidecar) -> Iterator[Client]:
    with Client(sidecar.endpoint, patience=PATIENCE) as c:
        yield c


def revoke(client: Client, lock: str) -> None:
    client.force_release(lock, client.get(lock).holders[0].fencing_token, "test", immediate=True)


def test_a_block_holds_the_lock_and_gives_it_back(client: Client, other: Client) -> None:
    with client.lock("a", ttl=10, owner="me", metadata={"k": "v"}) as lease:
        assert lease.lock_id == "a" and lease.owner_id == "me" and lease.metadata == {"k": "v"} and not lease.shared
        assert lease.attached and lease.stands and lease.lost_reason is None and not lease.lost.is_set()
        assert 0 < lease.remaining() <= lease.ttl == 10
        with pytest.raises(LockHeld) as held:
            other.acquire("a", wait=0)
        assert held.value.details["holder"] == "me"
    assert lease.released and lease.remaining() == 0
    with pytest.raises(LeaseLost):
        lease.check()
    with other.lock("a") as second:
        assert second.fencing_token > lease.fencing_token


def test_a_body_that_raises_releases_and_keeps_its_error(client: Client, other: Client) -> None:
    with pytest.raises(ZeroDivisionError):
        with client.lock("a"):
            1 / 0  # noqa: B018
    other.acquire("a", wait=0).release()


def test_a_body_that_raises_while_its_lease_was_lost_keeps_its_error(client: Client, other: Client) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        with client.lock("a", ttl=30) as lease:
            revoke(other, "a")
            assert lease.lost.wait(PATIENCE)
            1 / 0  # noqa: B018
    assert any("forced" in note for note in getattr(raised.value, "__notes__", ["forced"]))


def test_a_block_over_a_lease_raises_its_loss(client: Client, other: Client) -> None:
    with pytest.raises(LeaseLost) as lost:
        with client.acquire("a", ttl=30) as lease:
            revoke(other, "a")
            assert lease.lost.wait(PATIENCE)
    assert lost.value.details == {"cause": "forced"}
    lease.release()  # again


def test_a_lock_behaves_like_that_of_threading(client: Client, other: Client) -> None:
    lock, theirs = client.lock("a"), other.lock("a")
    assert not lock.locked() and lock.lease is None
    with pytest.raises(RuntimeError):
        lock.release()
    assert lock.acquire()
    assert lock.locked() and theirs.locked() and lock.lease is not None and lock.lease.stands
    assert not theirs.acquire(blocking=False)
    assert not theirs.acquire(timeout=0.2)
    for arguments in ({"blocking": False, "timeout": 1.0}, {"timeout": -2.0}):
        with pytest.raises(ValueError):
            lock.acquire(**arguments)
    lock.release()
    assert theirs.acquire(timeout=PATIENCE)
    theirs.release()
    assert not lock.locked()


def test_one_lock_object_excludes_the_threads_of_a_process(client: Client) -> None:
    lock, value = client.lock("counter"), 0

    def work() -> None:
        nonlocal value
        for _ in range(25):
            with lock:
                seen = value
                threading.Event().wait(0.0005)
                value = seen + 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE)
    assert value == 100


def test_readers_share(client: Client, other: Client) -> None:
    with client.read_lock("a") as one, other.read_lock("a") as two:
        assert one.shared and two.shared and one.fencing_token != two.fencing_token
        with pytest.raises(LockHeld):
            client.acquire("a", wait=0)


def test_a_reentrant_lock_may_be_entered_again(client: Client) -> None:
    lock = client.lock("a", owner="me", reentrant=True)
    with lock as outer:
        with lock as inner:
            assert inner.fencing_token == outer.fencing_token and inner.hold_count == 2
        outer.check()


def test_an_owner_that_would_wait_for_itself_is_told(client: Client) -> None:
    lock = client.lock("a", owner="me")
    with lock, pytest.raises(LockHeld) as held:
        lock.acquire(timeout=5)
    assert held.value.details["held_by_self"] == "true"


def test_a_given_up_acquire_leaves_the_queue(client: Client, other: Client) -> None:
    with client.lock("a"):
        acquiring = other.begin("a")
        eventually("it waits", lambda: len(client.get("a").waiters) == 1)
        assert not acquiring.done()
        with pytest.raises(TimeoutError):
            acquiring.result(0.01)
        acquiring.cancel()
        eventually("it left", lambda: len(client.get("a").waiters) == 0)
    got = other.begin("a")
    got.result(PATIENCE)
    got.cancel()  # after the grant: it is given back
    client.acquire("a").release()


def test_closing_gives_everything_back(client: Client, sidecar: Sidecar) -> None:
    going = Client(sidecar.endpoint)
    held = [going.acquire(f"a/{i}") for i in range(20)]
    client.acquire("b")
    waiting = going.begin("b")
    eventually("it waits", lambda: len(client.get("b").waiters) == 1)
    going.close()
    # A close waits for the answers for a bounded time.
    eventually("nothing is held", lambda: all(not client.get(f"a/{i}").holders for i in range(20)))
    eventually("nobody waits", lambda: not client.get("b").waiters)
    with pytest.raises(Cancelled):
        waiting.result(PATIENCE)
    with pytest.raises(Cancelled):
        going.acquire("c")
    for lease in held:
        assert lease.lost_reason == "closed"
        with pytest.raises(LeaseLost):
            lease.release()
    going.close()


def test_hooks_hear_of_grants_waits_and_losses(sidecar: Sidecar, client: Client) -> None:
    heard: queue.SimpleQueue[tuple[object, ...]] = queue.SimpleQueue()

    def fails(*_: object) -> None:
        raise ValueError("a hook's failure is its own")

    hooks = Hooks(
        acquired=lambda lock, outcome, seconds: heard.put((lock, outcome, seconds >= 0)),
        waiting=lambda lock, position, length: heard.put((lock, position, length)),
        lost=lambda lock, reason: heard.put((lock, reason)),
    )
    with Client(sidecar.endpoint, hooks=hooks) as c, Client(sidecar.endpoint, hooks=Hooks(acquired=fails, lost=fails)) as poor:
        lease = poor.acquire("a", ttl=30)
        acquiring = c.begin("a", ttl=30)
        assert heard.get(timeout=PATIENCE) == ("a", 1, 1)
        revoke(client, "a")
        assert lease.lost.wait(PATIENCE)
        held = acquiring.result(PATIENCE)
        assert heard.get(timeout=PATIENCE) == ("a", "granted", True)
        with pytest.raises(LockHeld):
            c.acquire("a", wait=0)
        assert heard.get(timeout=PATIENCE) == ("a", "LOCK_HELD", True)
        revoke(client, "a")
        assert held.lost.wait(PATIENCE)
        assert heard.get(timeout=PATIENCE) == ("a", "forced")


def test_a_silent_sidecar_costs_the_lease_by_the_clock_and_a_bounded_wait_ends(sidecar: Sidecar) -> None:
    with Client(sidecar.endpoint, patience=1) as c:
        lease = c.acquire("a", ttl=1)
        sidecar.send(signal.SIGSTOP)
        assert lease.lost.wait(PATIENCE)
        assert lease.lost_reason == "expired" and lease.remaining() == 0
        with pytest.raises(Exception) as failed:
            c.acquire("b", wait=0)
        assert getattr(failed.value, "reason", "") == "UNAVAILABLE"
        sidecar.send(signal.SIGCONT)


def test_a_restart_loses_what_the_store_loses_and_the_client_goes_on(sidecar: Sidecar, client: Client) -> None:
    lease = client.acquire("a", ttl=30)
    sidecar.end(signal.SIGKILL)
    sidecar.start()
    assert lease.lost.wait(PATIENCE)
    with pytest.raises(LeaseLost):
        lease.release()
    client.acquire("a").release()


def test_a_wait_goes_on_through_a_restart(sidecar: Sidecar, client: Client) -> None:
    client.acquire("a", ttl=30)
    acquiring = client.begin("a", ttl=30)
    eventually("it waits", lambda: len(client.get("a").waiters) == 1)
    sidecar.end(signal.SIGKILL)
    sidecar.start()
    acquiring.result(PATIENCE).release()


def test_an_endpoint_is_a_unix_socket(monkeypatch: pytest.MonkeyPatch, sidecar: Sidecar) -> None:
    with pytest.raises(ValueError):
        Client("localhost:80")
    monkeypatch.setenv("LOCKSIDECAR_ENDPOINT", sidecar.endpoint)
    with Client() as c:
        c.acquire("a").release()


def test_a_sidecar_that_stood_still_keeps_the_lease_that_outlasted_it(sidecar: Sidecar, client: Client) -> None:
    short, long = client.acquire("short", ttl=11), client.acquire("long", ttl=60)
    sidecar.send(signal.SIGSTOP)
    assert short.lost.wait(PATIENCE)  # by the clock
    long.check()
    sidecar.send(signal.SIGCONT)
    assert client.get("long").holders[0].fencing_token == long.fencing_token
    client.acquire("short").release()  # on the same stream
    assert long.attached
    long.release()


def test_an_interrupted_wait_leaves_the_queue(sidecar: Sidecar, client: Client) -> None:
    program = """if True:
        import sys
        from locksidecar import Client
        client = Client(sys.argv[1])
        try:
            client.acquire("a")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        sys.stdin.read()
    """
    with client.lock("a"):
        command = [sys.executable, "-c", program, sidecar.endpoint]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as waiter:
            eventually("it waits", lambda: len(client.get("a").waiters) == 1)
            waiter.send_signal(signal.SIGINT)
            assert waiter.stdout is not None and waiter.stdout.readline() == "interrupted\n"
            eventually("it left", lambda: len(client.get("a").waiters) == 0)
            assert waiter.poll() is None


def test_the_end_of_a_process_gives_everything_back(sidecar: Sidecar, client: Client) -> None:
    program = "import sys; from locksidecar import Client; c = Client(sys.argv[1]); c.acquire('a', ttl=60); c.acquire('b', ttl=60)"
    subprocess.run([sys.executable, "-c", program, sidecar.endpoint], check=True, timeout=PATIENCE)
    eventually("nothing is held", lambda: not client.get("a").holders and not client.get("b").holders)


def test_a_request_that_cannot_be_sent_is_refused_and_costs_no_lease(client: Client) -> None:
    large = "x" * (1 << 20)
    with client.lock("held") as held:
        with pytest.raises(LimitExceeded):
            client.acquire(large)
        with pytest.raises(LimitExceeded):
            client.acquire("a", metadata={"k": large})
        for wait in (-1, float("nan"), float("inf"), 1e300):
            with pytest.raises(ValueError, match="wait is"):
                client.acquire("a", wait=wait)
        for ttl in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="ttl is"):
                client.acquire("a", ttl=ttl)
        client.acquire("a", wait=1e9).release()
        assert held.attached
