// A leader loop: of any number of these one leads, and when it ends or loses its
// lease another takes over, with a greater token.
//
//   node dist/examples/leader.js NAME
import { setTimeout as sleep } from "node:timers/promises";
import { Client, type Lease, LeaseLostError, LocksidecarError } from "@locksidecar/client";

const name = process.argv[2] ?? `pid-${process.pid}`;
const stopping = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stopping.abort());

/** What a leader does until it is told to stop, or is the leader no more. */
async function lead(lease: Lease): Promise<void> {
  console.log(`${name} leads with token ${lease.token}`);
  const stop = AbortSignal.any([stopping.signal, lease.signal]);
  while (!stop.aborted) {
    lease.check(); // before each step: a pause may have cost the lease
    // … the step, which gives lease.token to whatever it writes to …
    await sleep(100, undefined, { signal: stop }).catch(() => undefined);
  }
}

await using client = new Client();
while (!stopping.signal.aborted) {
  try {
    await client.using("examples/leader", { ttlMs: 5000, owner: name, signal: stopping.signal }, lead);
  } catch (err) {
    if (stopping.signal.aborted) break;
    if (err instanceof LeaseLostError) {
      console.log(`${name} leads no more: ${err.lostReason}`);
    } else if (err instanceof LocksidecarError && err.retryable) {
      await sleep(1000);
    } else {
      throw err;
    }
  }
}
console.log(`${name} has stopped`);
