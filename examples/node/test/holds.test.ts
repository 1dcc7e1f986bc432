// Read and write, reentrant holds, priorities, hooks.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, LeaseLostError, LockHeldError, type AcquireObservation, type LostObservation, type WaitObservation } from "@locksidecar/client";
import { aborted, eventually, revoke, Sidecar } from "./sidecar.js";

test("readers share, and a writer waits for them", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const [one, two] = await Promise.all([client.acquire("a", { shared: true }), client.acquire("a", { shared: true })]);
  assert(one.shared && two.shared);
  const writer = client.acquire("a");
  await eventually("the writer waits", async () => (await client.get("a")).waiters.length === 1);
  await assert.rejects(client.acquire("a", { shared: true, waitMs: 0 }), LockHeldError);
  await one.release();
  await two.release();
  const lease = await writer;
  assert(!lease.shared && lease.token > two.token);
});

test("an owner re-enters with the same token, and an inner end leaves the outer hold", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const options = { owner: "me", reentrant: true };
  await client.using("a", options, async (outer) => {
    await client.using("a", options, (inner) => {
      assert.equal(inner.token, outer.token);
      assert.equal(inner.holdCount, 2);
    });
    outer.check();
    assert.equal((await client.get("a")).holders[0]?.hold_count, 1);
    await assert.rejects(client.acquire("a", { owner: "me", waitMs: 0 }), (err) => err instanceof LockHeldError && err.heldBySelf);
  });
  assert.equal((await client.get("a")).holders.length, 0);
});

test("a higher priority goes first, and a floor lifts the token", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const held = await client.acquire("a");
  const order: string[] = [];
  const wait = (name: string, priority: number) =>
    client.acquire("a", { owner: name, priority, tokenFloor: held.token + 1_000_000_000n }).then(async (lease) => {
      order.push(name);
      assert(lease.token > held.token + 999_999_999n);
      await lease.release();
    });
  const low = wait("low", 0);
  await eventually("it waits", async () => (await client.get("a")).waiters.length === 1);
  const high = wait("high", 5);
  await eventually("both wait", async () => (await client.get("a")).waiters.length === 2);
  await held.release();
  await Promise.all([low, high]);
  assert.deepEqual(order, ["high", "low"]);
});

test("hooks are told of acquires, waits and losses", async (t) => {
  const sidecar = await Sidecar.start(t);
  const acquires: AcquireObservation[] = [];
  const waits: WaitObservation[] = [];
  const losses: LostObservation[] = [];
  const hooks = {
    acquire: (o: AcquireObservation) => acquires.push(o),
    wait: (o: WaitObservation) => waits.push(o),
    lost: (o: LostObservation) => losses.push(o),
  };
  await using client = new Client({ endpoint: sidecar.endpoint, hooks });
  const lease = await client.acquire("a", { ttlMs: 60_000 });
  await assert.rejects(client.acquire("a", { waitMs: 0, shared: true }));
  const waiting = client.acquire("a");
  await eventually("it waits", () => waits.length > 0);
  await sleep(100); // the least that it waits
  await revoke(sidecar, "a", lease.token);
  await aborted(lease.signal);
  await assert.rejects(lease.release(), LeaseLostError);
  const next = await waiting;
  assert.deepEqual(losses, [{ lock: "a", token: lease.token, reason: "forced" }]);
  assert.deepEqual(waits[0], { lock: "a", position: 1, queueLength: 1 });
  assert.deepEqual(acquires.map((o) => [o.lock, o.shared, o.error instanceof LockHeldError]), [["a", false, false], ["a", true, true], ["a", false, false]]);
  assert((acquires[2]?.waitedMs ?? 0) > 90);
  await next.release();
});

test("a hook that throws changes nothing but warns", async (t) => {
  const sidecar = await Sidecar.start(t);
  const warned = once(process, "warning");
  const hooks = {
    acquire: () => {
      throw new Error("broken metrics");
    },
  };
  await using client = new Client({ endpoint: sidecar.endpoint, hooks });
  await (await client.acquire("a")).release();
  const [warning] = (await warned) as [Error];
  assert.match(warning.message, /broken metrics/);
});
