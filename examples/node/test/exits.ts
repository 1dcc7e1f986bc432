// A program of exit.test.ts, whose main part is over when it prints that it is done.
import { Client } from "@locksidecar/client";

const client = new Client();
const mode = process.argv[2];
if (mode === "released") await client.using("a", {}, () => undefined);
if (mode === "got") await client.get("a");
if (mode === "failed") await client.acquire("a//b").catch(() => undefined);
if (mode === "aborted") {
  const lease = await client.acquire("a");
  await client.acquire("a", { signal: AbortSignal.timeout(50) }).catch(() => undefined);
  await lease.release();
}
if (mode === "held") await client.acquire("a", { ttlMs: 60_000 });
console.log("done");
