"""Streams that break while the sidecar stands: leases are adopted, what was not answered is sent again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from locksidecar import Client, Lease
from tests.conftest import PATIENCE, Sidecar, eventually
from tests.proxy import Proxy


@pytest.fixture
def proxy(sidecar: Sidecar) -> Iterator[Proxy]:
    p = Proxy(os.path.dirname(sidecar.path), sidecar.path)
    yield p
    p.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Client]:
    with Client(proxy.endpoint, patience=PATIENCE) as c:
        yield c


@pytest.fixture
def direct(sidecar: Sidecar) -> Iterator[Client]:
    with Client(sidecar.endpoint) as c:
        yield c


def break_and_attach(proxy: Proxy, leases: list[Lease]) -> None:
    """Breaks the leases' stream, and returns when all are attached to another."""
    engine = leases[0]._engine
    broken = engine._stream
    assert broken is not None and proxy.reset() > 0
    # No lease is attached any more when there is another stream; what they are then, they are by that one.
    eventually("there is another stream", lambda: engine._stream not in (None, broken))
    eventually("the leases are attached again", lambda: all(lease.attached for lease in leases))


def test_every_lease_is_adopted_with_its_token(proxy: Proxy, client: Client, direct: Client) -> None:
    leases = [client.acquire(f"a/{i}", ttl=30, shared=i % 2 == 1) for i in range(20)]
    tokens = [lease.fencing_token for lease in leases]
    for _ in range(3):
        break_and_attach(proxy, leases)
    assert [direct.get(f"a/{i}").holders[0].fencing_token for i in range(20)] == tokens
    for lease in leases:
        lease.check()
        lease.release()
    assert all(not direct.get(f"a/{i}").holders for i in range(20))


def test_the_holds_of_a_reentrant_lease_are_adopted_one_by_one(proxy: Proxy, client: Client, direct: Client) -> None:
    holds = [client.acquire("a", ttl=30, owner="me", reentrant=True) for _ in range(3)]
    break_and_attach(proxy, holds)
    holds.append(client.acquire("a", ttl=30, owner="me", reentrant=True))
    for left in (3, 2, 1):
        holds.pop().release()
        assert direct.get("a").holders[0].hold_count == left
    holds.pop().release()
    assert not direct.get("a").holders


def test_the_adopted_lease_is_renewed(proxy: Proxy, client: Client) -> None:
    lease = client.acquire("a", ttl=6)
    break_and_attach(proxy, [lease])
    before = lease._valid_until
    eventually("it is renewed", lambda: lease._valid_until > before)
    lease.release()


def test_the_longest_hold_is_counted_from_the_grant(proxy: Proxy, client: Client) -> None:
    lease = client.acquire("a", ttl=30, max_hold=6)
    break_and_attach(proxy, [lease])
    assert lease.lost.wait(PATIENCE) and lease.lost_reason == "max_hold"


def test_a_wait_goes_on(proxy: Proxy, client: Client, direct: Client) -> None:
    held = direct.acquire("a", ttl=30)
    waiting = client.begin("a", ttl=30)
    eventually("it waits", lambda: len(direct.get("a").waiters) == 1)
    proxy.reset()
    eventually("it waits again", lambda: len(direct.get("a").waiters) == 1)
    held.release()
    got = waiting.result(PATIENCE)
    assert got.fencing_token > held.fencing_token
    got.release()


def test_nothing_is_lost_or_left_while_connections_break(proxy: Proxy, client: Client, direct: Client) -> None:
    value, passed, over = 0, 0, threading.Event()

    def work(c: Client) -> None:
        nonlocal value, passed
        for _ in range(60):
            with c.lock("counter", ttl=30):
                seen = value
                over.wait(0.002)
                value = seen + 1
                passed += c is client

    def breaks() -> None:
        before = 0
        while not over.wait(0.05):
            if passed != before:  # what the last break has cost was made good
                before = passed
                proxy.reset()

    workers = [threading.Thread(target=work, args=(c,)) for c in (client, client, direct)]
    breaker = threading.Thread(target=breaks)
    for t in [*workers, breaker]:
        t.start()
    for t in workers:
        t.join(PATIENCE)
    over.set()
    breaker.join(PATIENCE)
    assert value == 180
    eventually("nothing is left", lambda: not direct.get("counter").holders and not direct.get("counter").waiters)
