// What a lease promises, on a real sidecar.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import { Client, ClientClosedError, InvalidError, LeaseLostError, LimitExceededError, LockHeldError, type AcquireOptions } from "@locksidecar/client";
import { aborted, eventually, revoke, Sidecar } from "./sidecar.js";

/** Blocks the event loop. */
function block(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end; );
}

test("a lease has a token, an end, and an owner", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const lease = await client.acquire("a", { ttlMs: 10_000, owner: "me" });
  assert.equal(typeof lease.token, "bigint");
  assert.equal(lease.name, "a");
  assert.equal(lease.owner, "me");
  assert.equal(lease.ttlMs, 10_000);
  assert.equal(lease.shared, false);
  assert(lease.attached && lease.lost === undefined && !lease.signal.aborted);
  const left = lease.remaining();
  assert(left > 0 && left < 10_000, `${left} ms`);
  lease.check();
  await lease.release();
  assert.equal(lease.remaining(), 0);
  assert.throws(() => lease.check(), LeaseLostError);
  assert(!lease.signal.aborted, "a release is no loss");
  await Promise.all([lease.release(), lease.release()]);
  const next = await client.acquire("a");
  assert(next.token > lease.token);
});

test("await using releases", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  {
    await using lease = await client.acquire("a");
    lease.check();
  }
  assert.equal((await client.get("a")).holders.length, 0);
});

test("using returns what the body returns, and throws what it throws", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  assert.equal(await client.using("a", {}, () => 42), 42);
  assert.equal(await client.using("a", {}, (lease) => Promise.resolve(lease.name)), "a");
  const own = new Error("the body's own");
  await assert.rejects(
    client.using("a", {}, () => Promise.reject(own)),
    (err) => err === own,
  );
  assert.equal((await client.get("a")).holders.length, 0);
});

test("using does not run the body without the lock", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  await using held = await client.acquire("a", { owner: "web-1" });
  let ran = false;
  await assert.rejects(
    client.using("a", { waitMs: 0 }, () => {
      ran = true;
    }),
    (err) => err instanceof LockHeldError && err.holder === "web-1" && !err.heldBySelf,
  );
  assert(!ran);
  held.check();
});

test("a body whose lease was lost ends with LEASE_LOST, with its own error as the cause", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  for (const own of [undefined, new Error("the body's own")]) {
    let told: unknown;
    const ended = client.using("a", { ttlMs: 30_000 }, async (lease) => {
      await revoke(sidecar, "a", lease.token);
      await aborted(lease.signal);
      told = lease.signal.reason;
      assert.throws(() => lease.check(), (err) => err === told);
      if (own) throw own;
    });
    await assert.rejects(ended, (err) => err instanceof LeaseLostError && err.lostReason === "forced" && err.cause === own);
    assert(told instanceof LeaseLostError);
    // The end of the body was the acknowledgement: nobody has to wait out the TTL.
    const next = await client.acquire("a", { waitMs: 10_000 });
    await next.release();
  }
});

test("a body that throws because of the loss ends with the loss itself", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const ended = client.using("a", { ttlMs: 30_000 }, async (lease) => {
    await revoke(sidecar, "a", lease.token);
    await sleep(60_000, undefined, { signal: lease.signal }).catch(() => lease.signal.throwIfAborted());
  });
  await assert.rejects(ended, (err) => err instanceof LeaseLostError && err.cause === undefined);
});

test("an event loop that was blocked past the TTL keeps its lease, once it has read the renewals", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const lease = await client.acquire("a", { ttlMs: 4000 });
  block(4500);
  await sleep(50);
  lease.check();
  await lease.release();
});

test("a body that blocks past the TTL ends well, and may ask when it has read the renewals", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  await client.using("a", { ttlMs: 4000 }, () => block(4500));
  await client.using("a", { ttlMs: 4000 }, async (lease) => {
    block(4500);
    await lease.confirm();
    block(4500);
    await lease.confirm();
  });
  const own = new Error("the body's own");
  const throws = client.using("a", { ttlMs: 4000 }, () => {
    block(4500);
    throw own;
  });
  await assert.rejects(throws, (err) => err === own);
});

test("who asks before the renewals are read is told that the lease is lost, and it stays so", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const lease = await client.acquire("a", { ttlMs: 1000 });
  block(1500);
  assert.equal(lease.remaining(), 0);
  assert(lease.lost instanceof LeaseLostError && lease.signal.aborted);
  for (let i = 0; i < 20; i++) await turn();
  assert.throws(() => lease.check(), LeaseLostError);
  // The sidecar does not go on renewing it.
  const next = await client.acquire("a", { waitMs: 10_000 });
  assert(next.token > lease.token);
  await assert.rejects(lease.release(), LeaseLostError);
  next.check();
});

test("closing a client ends its waits and its leases", async (t) => {
  const sidecar = await Sidecar.start(t);
  const client = new Client({ endpoint: sidecar.endpoint });
  await using other = new Client({ endpoint: sidecar.endpoint });
  const lease = await client.acquire("a", { ttlMs: 30_000 });
  const waits = client.acquire("a");
  waits.catch(() => undefined);
  await eventually("it waits", async () => (await other.get("a")).waiters.length === 1);
  await Promise.all([client.close(), client.close()]);
  await assert.rejects(waits, ClientClosedError);
  await assert.rejects(client.acquire("b"), ClientClosedError);
  await assert.rejects(client.get("b"), ClientClosedError);
  assert(lease.signal.aborted);
  assert.throws(() => lease.check(), LeaseLostError);
  await eventually("nothing is left", async () => {
    const { holders, waiters } = await other.get("a");
    return holders.length + waiters.length === 0;
  });
});

test("what is not allowed is refused by name", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  await assert.rejects(client.acquire("a//b"), (err) => err instanceof InvalidError && err.reason === "INVALID_LOCK_ID" && !!err.limits);
  await assert.rejects(client.acquire("a", { ttlMs: 1 }), (err) => err instanceof InvalidError && err.reason === "INVALID_TTL");
  await assert.rejects(client.acquire("a", { waitMs: NaN }), RangeError);
  await assert.rejects(client.acquire("a", { ttlMs: -1 }), RangeError);
  assert.throws(() => new Client({ endpoint: "localhost:80" }), TypeError);
});

test("many locks and many waits go over one stream", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const leases = await Promise.all(Array.from({ length: 300 }, (_, i) => client.acquire(`many/${i}`)));
  assert.equal(new Set(leases.map((l) => l.name)).size, 300);
  let inside = 0;
  let runs = 0;
  const bodies = Array.from({ length: 50 }, () =>
    client.using("one", {}, async () => {
      assert.equal(++inside, 1);
      await turn();
      inside--;
      runs++;
    }),
  );
  await Promise.all(bodies);
  assert.equal(runs, 50);
  await Promise.all(leases.map((l) => l.release()));
});

test("a request that cannot be sent is refused and costs no lease", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  await using held = await client.acquire("held");
  const large = "x".repeat(1 << 20);
  await assert.rejects(client.acquire(large), LimitExceededError);
  await assert.rejects(client.acquire("a", { metadata: { large } }), LimitExceededError);
  const wrong: AcquireOptions[] = [
    { waitMs: 1e300 }, { waitMs: -1 }, { ttlMs: NaN }, { maxHoldMs: Infinity },
    { priority: -1 }, { priority: 1.5 }, { tokenFloor: 1n << 70n },
  ];
  for (const options of wrong) await assert.rejects(client.acquire("a", options), (err) => !(err instanceof LeaseLostError));
  await (await client.acquire("a", { waitMs: 1e12 })).release();
  assert(held.attached);
  held.check();
});
