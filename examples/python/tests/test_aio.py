"""The client for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from locksidecar import LeaseLost, LockHeld, aio
from tests.conftest import PATIENCE, Sidecar

Test = Callable[[aio.Client, aio.Client], Awaitable[None]]


def play(sidecar: Sidecar, test: Test) -> None:
    """Runs a test with two clients."""

    async def main() -> None:
        async with aio.Client(sidecar.endpoint) as one, aio.Client(sidecar.endpoint) as two:
            await asyncio.wait_for(test(one, two), PATIENCE)

    asyncio.run(main())


async def revoke(client: aio.Client, lock: str) -> None:
    holder = (await client.get(lock)).holders[0]
    await client.force_release(lock, holder.fencing_token, "test", immediate=True)


async def waiters(client: aio.Client, lock: str, count: int) -> None:
    while len((await client.get(lock)).waiters) != count:
        await asyncio.sleep(0.005)


def test_a_block_holds_the_lock_and_gives_it_back(sidecar: Sidecar) -> None:
    async def test(one: aio.Client, two: aio.Client) -> None:
        async with one.lock("a", ttl=10) as lease:
            lease.check()
            assert 0 < lease.remaining() <= 10 and not lease.lost.is_set()
            with pytest.raises(LockHeld):
                async with two.lock("a", wait=0):
                    pytest.fail("the body ran without the lock")
        async with two.lock("a", wait=0) as second:
            assert second.fencing_token > lease.fencing_token

    play(sidecar, test)


def test_a_lock_behaves_like_that_of_asyncio(sidecar: Sidecar) -> None:
    async def test(one: aio.Client, two: aio.Client) -> None:
        lock, theirs = one.lock("a"), two.lock("a")
        with pytest.raises(RuntimeError):
            await lock.release()
        assert await lock.acquire() and await theirs.locked() and lock.lease is not None
        assert not await theirs.acquire(blocking=False) and not await theirs.acquire(timeout=0.2)
        await lock.release()
        assert await theirs.acquire(timeout=PATIENCE)
        await theirs.release()

    play(sidecar, test)


def test_many_tasks_of_one_lock_object_exclude_each_other(sidecar: Sidecar) -> None:
    async def test(one: aio.Client, two: aio.Client) -> None:
        lock, value = one.lock("counter"), 0

        async def work() -> None:
            nonlocal value
            for _ in range(10):
                async with lock:
                    seen = value
                    await asyncio.sleep(0)
                    value = seen + 1

        await asyncio.gather(*(work() for _ in range(10)))
        assert value == 100

    play(sidecar, test)


def test_a_cancelled_wait_leaves_the_queue(sidecar: Sidecar) -> None:
    async def test(one: aio.Client, two: aio.Client) -> None:
        async with one.lock("a"):
            task = asyncio.create_task(two.acquire("a"))
            await waiters(one, "a", 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await waiters(one, "a", 0)
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await asyncio.wait_for(two.acquire("a"), 0.2)
            await waiters(one, "a", 0)

    play(sidecar, test)


def test_cancellation_at_any_moment_leaves_nothing_held(sidecar: Sidecar) -> None:
    async def test(one: aio.Client, two: aio.Client) -> None:
        async def work() -> None:
            async with one.lock("a"):
                await asyncio.sleep(0)

        for turns in range(60):  # from before the request is sent to after the block
            task = asyncio.create_task(work())
            for _ in range(turns):
                await asyncio.sleep(0.0001)
            task.cancel()
            await asyncio.wait([task])
        async with two.lock("a"):
            pass

    play(sidecar, test)


def test_the_loss_cancels_the_body_on_request(sidecar: Sidecar) -> None:
    async def test(one: aio.Client, two: aio.Client) -> None:
        with pytest.raises(LeaseLost) as lost:
            async with one.lock("a", ttl=30, cancel_on_loss=True):
                await revoke(two, "a")
                await asyncio.Event().wait()
        assert lost.value.details == {"cause": "forced"}
        # The task itself was not cancelled: it goes on.
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None and (not hasattr(task, "cancelling") or task.cancelling() == 0)

    play(sidecar, test)


def test_a_loss_without_the_request_lets_the_body_finish(sidecar: Sidecar) -> None:
    async def test(one: aio.Client, two: aio.Client) -> None:
        finished = False
        with pytest.raises(LeaseLost):
            async with one.lock("a", ttl=30) as lease:
                await revoke(two, "a")
                await lease.lost.wait()
                await asyncio.sleep(0)
                finished = True
        assert finished

    play(sidecar, test)


def test_a_loss_at_the_very_end_of_the_body_is_its_own(sidecar: Sidecar) -> None:
    async def test(one: aio.Client, two: aio.Client) -> None:
        with pytest.raises(LeaseLost):
            async with one.lock("a", ttl=30, cancel_on_loss=True) as lease:
                await revoke(two, "a")
                while lease.lost_reason is None:
                    time.sleep(0.001)  # the loop cannot deliver the cancellation
        await asyncio.sleep(0)

    play(sidecar, test)


def test_a_cancellation_from_outside_stays_one(sidecar: Sidecar) -> None:
    async def test(one: aio.Client, two: aio.Client) -> None:
        started = asyncio.Event()

        async def work() -> None:
            async with one.lock("a", ttl=30, cancel_on_loss=True):
                started.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await two.acquire("a", wait=0)

    play(sidecar, test)


def test_a_busy_loop_keeps_its_lease_and_knows_of_its_loss(sidecar: Sidecar) -> None:
    async def test(one: aio.Client, two: aio.Client) -> None:
        lease = await one.acquire("a", ttl=5)
        end = time.monotonic() + 8  # past the TTL: the time is what is tested
        while time.monotonic() < end:
            pass
        lease.check()
        await lease.release()

    play(sidecar, test)


def test_one_client_serves_one_loop_after_another(sidecar: Sidecar) -> None:
    client = aio.Client(sidecar.endpoint)

    async def once() -> None:
        async with client.lock("a", wait=0):
            pass

    asyncio.run(once())
    asyncio.run(once())
    asyncio.run(client.close())
