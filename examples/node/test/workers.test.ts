// Worker threads: each has a client of its own, and leases stay where they are.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { Client, LockHeldError } from "@locksidecar/client";
import { Sidecar } from "./sidecar.js";

function worker(data: Record<string, unknown>): Worker {
  return new Worker(new URL("./worker.js", import.meta.url), { workerData: data });
}

test("workers count without an atomic operation, and no increment is lost", async (t) => {
  const sidecar = await Sidecar.start(t);
  const counter = new SharedArrayBuffer(4);
  const times = 50;
  const workers = Array.from({ length: 4 }, () => worker({ endpoint: sidecar.endpoint, mode: "count", counter, times }));
  const codes = await Promise.all(workers.map((w) => once(w, "exit")));
  assert.deepEqual(codes.flat(), [0, 0, 0, 0], "a worker that holds nothing ends by itself");
  assert.equal(new Int32Array(counter)[0], 4 * times);
});

test("a lease cannot be sent to another thread", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  await using lease = await client.acquire("a");
  assert.throws(() => structuredClone(lease), { name: "DataCloneError" });
  const { port1 } = new MessageChannel();
  assert.throws(() => port1.postMessage(lease), { name: "DataCloneError" });
  port1.close();
});

test("a worker excludes the main thread, which is of the same process", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const w = worker({ endpoint: sidecar.endpoint, mode: "hold", ttlMs: 60_000 });
  const [token] = (await once(w, "message")) as [bigint];
  await assert.rejects(client.acquire("workers", { waitMs: 0 }), LockHeldError);
  w.postMessage("release");
  const lease = await client.acquire("workers");
  assert(lease.token > token);
  await once(w, "exit");
});

test("the lock of a worker that was terminated passes on, at the latest at the end of its TTL", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  await using own = await client.acquire("of the main thread".replaceAll(" ", "-"));
  const w = worker({ endpoint: sidecar.endpoint, mode: "hold", ttlMs: 2000 });
  const [token] = (await once(w, "message")) as [bigint];
  await w.terminate();
  const lease = await client.acquire("workers");
  assert(lease.token > token);
  own.check();
});
