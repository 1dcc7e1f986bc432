// A contended counter: any number of these add to one file, which has no
// atomicity of its own, and no increment is lost.
//
//   node dist/examples/counter.js FILE TIMES
import { readFile, writeFile } from "node:fs/promises";
import { Client } from "@locksidecar/client";

const [file, times] = process.argv.slice(2);
if (!file || !times) {
  console.error("usage: counter.js FILE TIMES");
  process.exit(2);
}

await using client = new Client();
for (let i = 0; i < Number(times); i++) {
  await client.using("examples/counter", {}, async () => {
    const count = Number(await readFile(file, "ascii"));
    await writeFile(file, String(count + 1));
  });
}
console.log(`added ${times}`);
