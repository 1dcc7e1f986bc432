// Holds a lock in one of four ways. Prints one JSON object a
// line. The arguments and events are those of ../python/hold.py.
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, type Lease, type LeaseLostError } from "./index.js";

const { values: args } = parseArgs({
  options: {
    endpoint: { type: "string" },
    mode: { type: "string", default: "hold" },
    lock: { type: "string" },
    ttl: { type: "string", default: "15s" },
    count: { type: "string", default: "1" },
    file: { type: "string", default: "" },
    seconds: { type: "string", default: "1" },
    register: { type: "string", default: "" },
  },
});
const endpoint = required("endpoint", args.endpoint);
const lock = required("lock", args.lock);
const ttlMs = Number(args.ttl.replace(/s$/, "")) * 1000;

function required(name: string, value: string | undefined): string {
  if (value) return value;
  console.error(`--${name} is required`);
  process.exit(2);
}

function say(event: string, fields: Record<string, unknown> = {}): void {
  process.stdout.write(JSON.stringify({ event, ...fields }) + "\n");
}

async function acquire(client: Client): Promise<Lease> {
  const lease = await client.acquire(lock, { ttlMs });
  say("granted", { fencing_token: String(lease.token), valid_for: lease.remaining() / 1000 });
  lease.signal.addEventListener("abort", () => {
    const { lostReason } = lease.signal.reason as LeaseLostError;
    if (lostReason !== "closed") say("lost", { reason: lostReason });
  });
  return lease;
}

async function counter(client: Client): Promise<void> {
  for (let i = 0; i < Number(args.count); i++) {
    await client.using(lock, { ttlMs }, () => {
      writeFileSync(args.file, String(Number(readFileSync(args.file, "ascii")) + 1));
    });
  }
  say("counted", { count: Number(args.count) });
}

async function compute(client: Client): Promise<void> {
  const lease = await acquire(client);
  const end = performance.now() + Number(args.seconds) * 1000;
  while (performance.now() < end); // blocks the event loop
  await sleep(100); // so that what arrived meanwhile is seen
  if (lease.lost) return;
  const { holders } = await client.get(lock);
  say(holders.length === 1 && holders[0]?.fencing_token === lease.token ? "still_held" : "not_held");
}

async function write(token: bigint, value: string): Promise<number> {
  const response = await fetch(args.register, { method: "POST", body: JSON.stringify({ token: String(token), value }) });
  await response.arrayBuffer();
  return response.status;
}

async function main(): Promise<void> {
  await using client = new Client({ endpoint });
  if (args.mode === "counter") {
    await counter(client);
  } else if (args.mode === "compute") {
    await compute(client);
  } else {
    const lease = await acquire(client);
    for await (const line of createInterface({ input: process.stdin })) {
      // Lost or not: that the resource refuses it is what is shown.
      if (args.mode === "write") say("write", { status: await write(lease.token, line.trim()) });
    }
  }
}

await main();
