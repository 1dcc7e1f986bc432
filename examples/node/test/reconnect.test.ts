// Broken connections and sidecars that go away.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, LeaseLostError, LockHeldError, SidecarUnavailableError } from "@locksidecar/client";
import { aborted, eventually, PATIENCE_MS, Proxy, Sidecar } from "./sidecar.js";

test("a broken connection keeps lease and token, again and again", async (t) => {
  const sidecar = await Sidecar.start(t);
  const proxy = new Proxy(t, sidecar);
  await using client = new Client({ endpoint: proxy.endpoint });
  await using other = new Client({ endpoint: sidecar.endpoint });
  const lease = await client.acquire("a", { ttlMs: 10_000, owner: "me" });
  for (let i = 0; i < 10; i++) {
    await proxy.interrupt();
    await eventually("the lease is attached again", () => lease.attached);
    lease.check();
  }
  await assert.rejects(other.acquire("a", { waitMs: 0 }), LockHeldError);
  const [holder] = (await other.get("a")).holders;
  assert.equal(holder?.fencing_token, lease.token);
  await lease.release();
  assert.equal((await other.get("a")).holders.length, 0);
});

test("after a break the lease is renewed again, past its TTL", async (t) => {
  const sidecar = await Sidecar.start(t);
  const proxy = new Proxy(t, sidecar);
  await using client = new Client({ endpoint: proxy.endpoint });
  const lease = await client.acquire("a", { ttlMs: 5000 });
  await proxy.interrupt();
  await eventually("the lease is attached again", () => lease.attached);
  await new Promise((resolve) => setTimeout(resolve, 6000)); // past the TTL: the time is what is tested
  lease.check();
});

test("many leases, holds and shared ones outlive a break together", async (t) => {
  const sidecar = await Sidecar.start(t);
  const proxy = new Proxy(t, sidecar);
  await using client = new Client({ endpoint: proxy.endpoint });
  const leases = await Promise.all([
    ...Array.from({ length: 100 }, (_, i) => client.acquire(`many/${i}`)),
    client.acquire("shared", { shared: true }),
    client.acquire("shared", { shared: true }),
  ]);
  await proxy.interrupt();
  await eventually("all are attached again", () => leases.every((l) => l.attached));
  await Promise.all(leases.map((l) => l.release()));
});

test("the holds of one lease outlive a break together, and are renewed", async (t) => {
  const sidecar = await Sidecar.start(t);
  const proxy = new Proxy(t, sidecar);
  await using client = new Client({ endpoint: proxy.endpoint });
  const options = { owner: "me", reentrant: true, ttlMs: 5000 };
  const holds = [await client.acquire("a", options)];
  while (holds.length < 5) holds.push(await client.acquire("a", options));
  await proxy.interrupt();
  await eventually("all are attached again", () => holds.every((l) => l.attached));
  await new Promise((resolve) => setTimeout(resolve, 6000)); // past the TTL: the time is what is tested
  for (const hold of holds) hold.check();
  await Promise.all(holds.map((l) => l.release()));
  assert.equal((await client.get("a")).holders.length, 0);
});

test("a wait outlives a break", async (t) => {
  const sidecar = await Sidecar.start(t);
  const proxy = new Proxy(t, sidecar);
  await using holder = new Client({ endpoint: sidecar.endpoint });
  await using client = new Client({ endpoint: proxy.endpoint });
  const held = await holder.acquire("a");
  const waits = client.acquire("a");
  for (let i = 0; i < 3; i++) {
    await eventually("it waits", async () => (await holder.get("a")).waiters.length === 1);
    proxy.cut();
  }
  await eventually("it waits again", async () => (await holder.get("a")).waiters.length === 1);
  await held.release();
  const lease = await waits;
  assert(lease.token > held.token);
  lease.check();
});

test("a release while the connection is broken is carried out", async (t) => {
  const sidecar = await Sidecar.start(t);
  const proxy = new Proxy(t, sidecar);
  await using client = new Client({ endpoint: proxy.endpoint });
  await using other = new Client({ endpoint: sidecar.endpoint });
  for (let i = 0; i < 10; i++) {
    const lease = await client.acquire("a", { ttlMs: 60_000 });
    const before = i % 2 ? lease.release() : undefined;
    proxy.cut();
    await (before ?? lease.release());
    const next = await other.acquire("a", { waitMs: 30_000 });
    assert(next.token > lease.token);
    await next.release();
  }
});

test("a lease of a sidecar that stays away is lost by the client's own clock", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const ended = client.using("a", { ttlMs: 3000 }, async (lease) => {
    await sidecar.kill();
    await aborted(lease.signal);
    assert.equal(lease.remaining(), 0);
  });
  await assert.rejects(ended, (err) => err instanceof LeaseLostError && err.lostReason === "unreachable");
});

test("without a sidecar an acquire ends when patience does, with and without a bound", async (t) => {
  const sidecar = new Sidecar(t);
  await using client = new Client({ endpoint: sidecar.endpoint, patienceMs: 400 });
  await assert.rejects(client.acquire("a"), SidecarUnavailableError);
  await assert.rejects(client.acquire("a", { waitMs: 0 }), (err) => err instanceof SidecarUnavailableError && err.retryable);
  await assert.rejects(client.get("a"), SidecarUnavailableError);
});

test("the sidecar is waited for at the start", async (t) => {
  const sidecar = new Sidecar(t);
  await using client = new Client({ endpoint: sidecar.endpoint, patienceMs: PATIENCE_MS });
  const early = [client.acquire("a", { waitMs: 0 }), client.acquire("b")];
  await sidecar.start();
  for (const lease of await Promise.all(early)) lease.check();
});

test("a sidecar that stops tells its leases lost, and waits go on at the next", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint, patienceMs: PATIENCE_MS });
  const lease = await client.acquire("a", { ttlMs: 60_000 });
  const waits = client.acquire("a");
  await eventually("it waits", async () => (await client.get("a")).waiters.length === 1);
  await sidecar.terminate();
  await eventually("it is lost", () => lease.signal.aborted);
  assert.equal(lease.lost?.lostReason, "released");
  await sidecar.start();
  const next = await waits;
  assert(next.token > lease.token);
});

test("a sidecar that stands still is noticed, and its lease goes on when it does", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const lease = await client.acquire("a", { ttlMs: 60_000 });
  sidecar.pause();
  await eventually("the stream is given up", () => !lease.attached);
  lease.check();
  await assert.rejects(client.acquire("b", { waitMs: 0 }), SidecarUnavailableError);
  sidecar.resume();
  await eventually("the lease is attached again", () => lease.attached);
  lease.check();
  await lease.release();
});
