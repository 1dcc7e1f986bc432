// Giving up a wait by an AbortSignal.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "@locksidecar/client";
import { eventually, Sidecar } from "./sidecar.js";

test("an abort leaves the queue, and its reason is what is thrown", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const held = await client.acquire("a");
  const abort = new AbortController();
  const waits = client.acquire("a", { signal: abort.signal });
  waits.catch(() => undefined);
  await eventually("it waits", async () => (await client.get("a")).waiters.length === 1);
  const reason = { any: "value" };
  abort.abort(reason);
  await assert.rejects(waits, (err) => err === reason);
  await eventually("its place is gone", async () => (await client.get("a")).waiters.length === 0);
  held.check();
  await held.release();
});

test("a signal that was aborted before asks for nothing", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  await assert.rejects(client.acquire("a", { signal: AbortSignal.abort() }), { name: "AbortError" });
  let ran = false;
  await assert.rejects(client.using("a", { signal: AbortSignal.abort() }, () => (ran = true)), { name: "AbortError" });
  assert(!ran);
  assert.equal((await client.get("a")).fencing_token, 0n);
});

test("AbortSignal.timeout bounds a wait", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  await using _held = await client.acquire("a");
  await assert.rejects(client.acquire("a", { signal: AbortSignal.timeout(100) }), { name: "TimeoutError" });
  await eventually("its place is gone", async () => (await client.get("a")).waiters.length === 0);
});

test("an abort after the grant does nothing", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const abort = new AbortController();
  const lease = await client.acquire("a", { signal: abort.signal });
  abort.abort();
  lease.check();
  assert(!lease.signal.aborted);
  assert.equal((await client.get("a")).holders.length, 1);
  await lease.release();
});

test("an abort ends the looking for a sidecar", async (t) => {
  const sidecar = new Sidecar(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const abort = new AbortController();
  const waits = client.acquire("a", { signal: abort.signal });
  setTimeout(() => abort.abort(), 100);
  await assert.rejects(waits, { name: "AbortError" });
});

test("an abort about when the lock is granted leaves nothing behind", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  await using other = new Client({ endpoint: sidecar.endpoint });
  let granted = 0;
  const times = 150;
  for (let i = 0; i < times; i++) {
    const held = await other.acquire("a", { ttlMs: 60_000 });
    const abort = new AbortController();
    const waits = client.acquire("a", { ttlMs: 60_000, signal: abort.signal });
    waits.catch(() => undefined);
    await eventually("it waits", async () => (await other.get("a")).waiters.length === 1);
    const leave = sleep(Math.random() * 3).then(() => abort.abort());
    await held.release();
    await waits.then(
      (lease) => (granted++, lease.release()),
      () => undefined,
    );
    await leave;
  }
  t.diagnostic(`${granted} of ${times} were granted`);
  await eventually("the lock is free", async () => {
    const { holders, waiters } = await other.get("a");
    return holders.length + waiters.length === 0;
  });
});
