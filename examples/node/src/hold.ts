// Holds a lock over a Hold stream, in one of four ways. Prints one JSON object a
// line. The arguments and events are those of ../python/hold.py.
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import type { Lease, Lock } from "./gen/locksidecar/v1/lock.js";
import { dial, Holder, type LockServiceClient } from "./holder.js";

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

function sayGranted(lease: Lease): void {
  const v = lease.valid_for;
  say("granted", { fencing_token: String(lease.fencing_token), valid_for: v ? Number(v.seconds) + v.nanos / 1e9 : 0 });
}

async function counter(holder: Holder): Promise<void> {
  for (let i = 0; i < Number(args.count); i++) {
    const lease = await holder.acquire(lock, ttlMs);
    writeFileSync(args.file, String(Number(readFileSync(args.file, "ascii")) + 1));
    await holder.release(lease);
  }
  say("counted", { count: Number(args.count) });
}

async function compute(client: LockServiceClient, holder: Holder, lost: () => boolean): Promise<void> {
  const lease = await holder.acquire(lock, ttlMs);
  sayGranted(lease);
  const end = Date.now() + Number(args.seconds) * 1000;
  while (Date.now() < end); // blocks the event loop
  // One turn of the loop, so that what arrived meanwhile is seen.
  await new Promise((resolve) => setTimeout(resolve, 100));
  if (lost()) return;
  const state = await new Promise<Lock>((resolve, reject) =>
    client.get({ lock_id: lock }, (err, l) => (err ? reject(err) : resolve(l))),
  );
  say(state.holders.length === 1 && state.holders[0]?.fencing_token === lease.fencing_token ? "still_held" : "not_held");
}

async function write(token: bigint, value: string): Promise<number> {
  const response = await fetch(args.register, { method: "POST", body: JSON.stringify({ token: String(token), value }) });
  await response.arrayBuffer();
  return response.status;
}

async function main(): Promise<void> {
  const client = await dial(endpoint);
  let closing = false;
  let lost = false;
  const holder = new Holder(client, (reason) => {
    if (closing) return;
    lost = true;
    say("lost", { reason });
  });
  if (args.mode === "counter") {
    await counter(holder);
  } else if (args.mode === "compute") {
    await compute(client, holder, () => lost);
  } else {
    const lease = await holder.acquire(lock, ttlMs);
    sayGranted(lease);
    for await (const line of createInterface({ input: process.stdin })) {
      if (args.mode === "write") say("write", { status: await write(lease.fencing_token, line.trim()) });
    }
  }
  closing = true;
  holder.close();
  client.close();
}

await main();
