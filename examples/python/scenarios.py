"""Plays the scenarios of ../spec.json with this package, for threads or for asyncio.

The protocol on standard input and output is described in ../README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import locksidecar
from locksidecar import LocksidecarError, aio
from locksidecar._lease import BaseLease
from locksidecar.v1 import lock_pb2

STEP = 30.0  # seconds within which each step must end
LOOK = 0.01  # seconds between two looks at what has no event

Step = dict[str, Any]
Body = Callable[[Any], Awaitable[None]]


class Failed(Exception):
    """A step that did not go as the scenario says."""


class Flavour(Protocol):
    """A client in one of the two ways; what blocks is waited for."""

    def __init__(self, endpoint: str) -> None: ...
    async def acquire(self, lock: str, **options: Any) -> BaseLease: ...
    def begin(self, lock: str, **options: Any) -> Any: ...
    async def granted(self, pending: Any) -> BaseLease: ...
    async def cancel(self, pending: Any) -> None: ...
    async def block(self, lock: str, body: Body, **options: Any) -> None: ...
    async def release(self, lease: Any) -> None: ...
    async def lost(self, lease: Any) -> None: ...
    async def get(self, lock: str) -> lock_pb2.Lock: ...
    async def force_release(self, lock: str, token: int, immediate: bool) -> None: ...
    async def close(self) -> None: ...


class Threads:
    """locksidecar.Client, each blocking call on a thread."""

    def __init__(self, endpoint: str) -> None:
        self.client = locksidecar.Client(endpoint)

    async def acquire(self, lock: str, **options: Any) -> BaseLease:
        return await asyncio.to_thread(self.client.acquire, lock, **options)

    def begin(self, lock: str, **options: Any) -> locksidecar.Acquiring:
        return self.client.begin(lock, **options)

    async def granted(self, pending: locksidecar.Acquiring) -> BaseLease:
        return await asyncio.to_thread(pending.result, STEP)

    async def cancel(self, pending: locksidecar.Acquiring) -> None:
        pending.cancel()

    async def block(self, lock: str, body: Body, **options: Any) -> None:
        loop = asyncio.get_running_loop()

        async def play(lease: locksidecar.Lease) -> None:
            await body(lease)

        def run() -> None:
            with self.client.lock(lock, **options) as lease:
                asyncio.run_coroutine_threadsafe(play(lease), loop).result()

        await asyncio.to_thread(run)

    async def release(self, lease: locksidecar.Lease) -> None:
        await asyncio.to_thread(lease.release)

    async def lost(self, lease: locksidecar.Lease) -> None:
        await asyncio.to_thread(lease.lost.wait, STEP)

    async def get(self, lock: str) -> lock_pb2.Lock:
        return await asyncio.to_thread(self.client.get, lock)

    async def force_release(self, lock: str, token: int, immediate: bool) -> None:
        await asyncio.to_thread(self.client.force_release, lock, token, "scenario", immediate=immediate)

    async def close(self) -> None:
        await asyncio.to_thread(self.client.close)


class Tasks:
    """locksidecar.aio.Client."""

    def __init__(self, endpoint: str) -> None:
        self.client = aio.Client(endpoint)

    async def acquire(self, lock: str, **options: Any) -> BaseLease:
        return await self.client.acquire(lock, **options)

    def begin(self, lock: str, **options: Any) -> asyncio.Task[aio.Lease]:
        return asyncio.create_task(self.client.acquire(lock, **options))

    async def granted(self, pending: asyncio.Task[aio.Lease]) -> BaseLease:
        return await pending

    async def cancel(self, pending: asyncio.Task[aio.Lease]) -> None:
        pending.cancel()
        await asyncio.wait([pending])
        if not pending.cancelled():
            raise Failed("the task was not cancelled")

    async def block(self, lock: str, body: Body, **options: Any) -> None:
        async with self.client.lock(lock, **options) as lease:
            await body(lease)

    async def release(self, lease: aio.Lease) -> None:
        await lease.release()

    async def lost(self, lease: aio.Lease) -> None:
        await lease.lost.wait()

    async def get(self, lock: str) -> lock_pb2.Lock:
        return await self.client.get(lock)

    async def force_release(self, lock: str, token: int, immediate: bool) -> None:
        await self.client.force_release(lock, token, "scenario", immediate=immediate)

    async def close(self) -> None:
        await self.client.close()


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise Failed(message)


async def eventually(look: Callable[[], Awaitable[bool]]) -> None:
    """Looks until the condition holds; the step's own bound ends it."""
    while not await look():
        await asyncio.sleep(LOOK)


async def ask(action: str) -> None:
    """Has the harness do something to the sidecar."""
    print(json.dumps({"sidecar": action}), flush=True)
    answer = json.loads(await asyncio.to_thread(sys.stdin.readline))
    expect(answer == {"done": action}, f"the harness answered {answer}")


class Play:
    """One scenario: its names and what they stand for."""

    serial = itertools.count()

    def __init__(self, make: Callable[[str], Flavour], endpoint: str) -> None:
        self.make, self.endpoint = make, endpoint
        self.prefix = f"spec/{os.getpid()}/{next(self.serial)}/"
        self.clients: dict[str, Flavour] = {}
        self.holders: dict[str, Flavour] = {}
        self.leases: dict[str, BaseLease] = {}
        self.pending: dict[str, tuple[Flavour, Any]] = {}
        self.marks: dict[str, int] = {}

    async def steps(self, steps: list[Step]) -> None:
        for i, step in enumerate(steps):
            try:
                await asyncio.wait_for(self.step(step), STEP)
            except Failed as failure:
                raise Failed(i, str(failure)) from failure
            except (TimeoutError, asyncio.TimeoutError) as failure:
                raise Failed(i, f"the step did not end within {STEP} s") from failure
            except Exception as failure:
                raise Failed(i, f"{type(failure).__name__}: {failure}") from failure

    async def step(self, step: Step) -> None:
        """Runs a step, which must fail as it says."""
        want = step.get("error")
        try:
            await getattr(self, "do_" + step["do"])(step)
        except LocksidecarError as failure:
            expect(failure.reason == want, f"failed with {failure.reason or type(failure).__name__}: {failure}")
            for key, value in step.get("details", {}).items():
                expect(failure.details.get(key) == value, f"the details are {failure.details}, want {key}={value}")
        else:
            expect(want is None, f"did not fail, want {want}")

    def client(self, step: Step) -> Flavour:
        """The named client, or any for a step that only looks."""
        name = step.get("client", "looks")
        if name not in self.clients:
            self.clients[name] = self.make(self.endpoint)
        return self.clients[name]

    def lock(self, step: Step) -> str:
        return str(step["raw_lock"]) if "raw_lock" in step else self.prefix + str(step["lock"])

    def options(self, step: Step) -> dict[str, Any]:
        options = dict(step.get("options", {}))
        for name in ("ttl", "wait", "max_hold"):
            if name + "_ms" in options:
                options[name] = options.pop(name + "_ms") / 1000
        if "floor_above" in options:
            options["token_floor"] = self.leases[options.pop("floor_above")].fencing_token + options.pop("by")
        return options

    def keep(self, step: Step, client: Flavour, lease: BaseLease) -> None:
        if "as" in step:
            self.leases[step["as"]], self.holders[step["as"]] = lease, client

    async def do_acquire(self, step: Step) -> None:
        client = self.client(step)
        self.keep(step, client, await client.acquire(self.lock(step), **self.options(step)))

    async def do_begin(self, step: Step) -> None:
        client = self.client(step)
        self.pending[step["as"]] = client, client.begin(self.lock(step), **self.options(step))

    async def do_granted(self, step: Step) -> None:
        client, pending = self.pending.pop(step["pending"])
        self.keep(step, client, await client.granted(pending))

    async def do_cancel(self, step: Step) -> None:
        client, pending = self.pending.pop(step["pending"])
        await client.cancel(pending)

    async def do_with(self, step: Step) -> None:
        client, ran = self.client(step), False

        async def body(lease: BaseLease) -> None:
            nonlocal ran
            ran = True
            self.keep(step, client, lease)
            await self.steps(step["body"])

        try:
            await client.block(self.lock(step), body, **self.options(step))
        finally:
            if ran != step["ran"]:
                raise Failed(f"the body {'ran' if ran else 'did not run'}")

    async def do_release(self, step: Step) -> None:
        await self.holders[step["lease"]].release(self.leases[step["lease"]])

    async def do_check(self, step: Step) -> None:
        self.leases[step["lease"]].check()

    async def do_remaining(self, step: Step) -> None:
        left = self.leases[step["lease"]].remaining() * 1000
        expect(step["above_ms"] < left <= step["at_most_ms"], f"{left} ms remain")

    async def do_lost(self, step: Step) -> None:
        lease = self.leases[step["lease"]]
        await self.holders[step["lease"]].lost(lease)
        reason = lease.lost_reason
        expect(reason is not None, "it is not lost")
        expect(step.get("reason", reason) == reason, f"it was lost for {reason}")

    async def do_attached(self, step: Step) -> None:
        lease = self.leases[step["lease"]]

        async def look() -> bool:
            lease.check()
            return lease.attached

        await eventually(look)

    async def do_waiters(self, step: Step) -> None:
        async def look() -> bool:
            count: int = step["count"]
            return len((await self.client(step).get(self.lock(step))).waiters) == count

        await eventually(look)

    async def do_free(self, step: Step) -> None:
        async def look() -> bool:
            lock = await self.client(step).get(self.lock(step))
            return len(lock.holders) == len(lock.waiters) == 0

        await eventually(look)

    async def one_holder(self, step: Step) -> lock_pb2.Holder:
        holders = (await self.client(step).get(self.lock(step))).holders
        expect(len(holders) == 1, f"the lock has {len(holders)} holders")
        return holders[0]

    async def do_hold_count(self, step: Step) -> None:
        holder = await self.one_holder(step)
        expect(holder.hold_count == step["is"], f"the holder has {holder.hold_count} holds")

    async def do_holder(self, step: Step) -> None:
        holder = await self.one_holder(step)
        expect(step.get("owner", holder.owner_id) == holder.owner_id, f"the owner is {holder.owner_id!r}")
        metadata = dict(holder.metadata)
        expect(step.get("metadata", metadata) == metadata, f"the metadata are {metadata}")
        if "token_of" in step:
            token = self.leases[step["token_of"]].fencing_token
            expect(holder.fencing_token == token, f"the holder's token is {holder.fencing_token}, the lease's {token}")

    async def do_token_rises(self, step: Step) -> None:
        tokens = [self.leases[name].fencing_token for name in step["leases"]]
        by = step.get("by", 1)
        expect(all(b - a >= by for a, b in itertools.pairwise(tokens)), f"the tokens are {tokens}")

    async def do_token_same(self, step: Step) -> None:
        tokens = {self.leases[name].fencing_token for name in step["leases"]}
        expect(len(tokens) == 1, f"the tokens are {tokens}")

    async def do_force_release(self, step: Step) -> None:
        token = self.leases[step["lease"]].fencing_token
        await self.client({}).force_release(self.lock(step), token, step.get("immediate", False))

    async def do_write(self, step: Step) -> None:
        token, mark = self.leases[step["lease"]].fencing_token, self.marks.get(step["to"], 0)
        accepted = token >= mark
        if accepted:
            self.marks[step["to"]] = token
        expect(accepted == step["accepted"], f"the write with {token} at the mark {mark}: {accepted}")

    async def do_pass(self, step: Step) -> None:
        await asyncio.sleep(step["ms"] / 1000)

    async def do_close(self, step: Step) -> None:
        await self.client(step).close()

    async def do_sidecar(self, step: Step) -> None:
        await ask(step["action"])

    async def end(self) -> None:
        for client, pending in self.pending.values():
            await client.cancel(pending)
        for client in self.clients.values():
            await client.close()


async def run(make: Callable[[str], Flavour], endpoint: str, scenario: Step) -> dict[str, Any]:
    play = Play(make, endpoint)
    try:
        await play.steps(scenario["steps"])
        return {"result": "pass"}
    except Failed as failure:
        return {"result": "fail", "step": failure.args[0], "message": failure.args[1]}
    finally:
        await play.end()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flavour", choices=["sync", "asyncio"], default="sync")
    parser.add_argument("--endpoint", required=True, help="unix:///path/of/the/socket")
    args = parser.parse_args()
    make = Threads if args.flavour == "sync" else Tasks
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await run(make, args.endpoint, json.loads(line)["run"])), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
