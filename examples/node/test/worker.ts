// A worker thread of workers.test.ts.
import { once } from "node:events";
import { setImmediate as turn } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import { Client } from "@locksidecar/client";

interface Data {
  endpoint: string;
  mode: "count" | "hold";
  counter: SharedArrayBuffer;
  times: number;
  ttlMs: number;
}

const { endpoint, mode, counter, times, ttlMs } = workerData as Data;
const client = new Client({ endpoint });
if (mode === "count") {
  const cell = new Int32Array(counter);
  for (let i = 0; i < times; i++) {
    await client.using("workers", {}, async () => {
      const seen = cell[0] ?? 0;
      await turn();
      cell[0] = seen + 1;
    });
  }
} else {
  const lease = await client.acquire("workers", { ttlMs });
  parentPort?.postMessage(lease.token);
  if (parentPort) await once(parentPort, "message");
  await lease.release();
  parentPort?.close();
}
