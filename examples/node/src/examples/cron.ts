// A cron singleton: every host starts this at the same tick, and the job runs
// once. The lock keeps two from running it together; that the tick was done is
// remembered where the job's result is, since a host may come after the lock has
// been released.
//
//   node dist/examples/cron.js TICK FILE
import { appendFile, readFile } from "node:fs/promises";
import { Client, LockHeldError } from "@locksidecar/client";

const [tick, file] = process.argv.slice(2);
if (!tick || !file) {
  console.error("usage: cron.js TICK FILE");
  process.exit(2);
}

await using client = new Client();
try {
  await client.using("examples/cron/nightly", { waitMs: 0, metadata: { tick } }, async (lease) => {
    const done = await readFile(file, "utf8").catch(() => "");
    if (done.split("\n").some((line) => line.startsWith(`${tick} `))) {
      console.log("done before");
      return;
    }
    await appendFile(file, `${tick} by ${process.pid} with token ${lease.token}\n`);
    console.log("ran");
  });
} catch (err) {
  if (!(err instanceof LockHeldError)) throw err;
  console.log("another runs it");
}
