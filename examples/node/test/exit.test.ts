// When a process ends by itself.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "@locksidecar/client";
import { eventually, Program, Sidecar } from "./sidecar.js";

for (const mode of ["idle", "released", "got", "failed", "aborted"]) {
  test(`a process that holds nothing ends by itself, without closing its client: ${mode}`, async (t) => {
    const sidecar = await Sidecar.start(t);
    const program = new Program(t, "test/exits.js", [mode], { LOCKSIDECAR_ENDPOINT: sidecar.endpoint });
    assert.equal(await program.ended, 0, program.output);
    assert.match(program.output, /done/);
  });
}

test("a held lease keeps its process alive, and ends with it", async (t) => {
  const sidecar = await Sidecar.start(t);
  await using client = new Client({ endpoint: sidecar.endpoint });
  const program = new Program(t, "test/exits.js", ["held"], { LOCKSIDECAR_ENDPOINT: sidecar.endpoint });
  await program.prints(/done/);
  const waits = client.acquire("a");
  await eventually("it waits", async () => (await client.get("a")).waiters.length === 1);
  assert.equal(program.child.exitCode, null);
  program.child.kill("SIGKILL");
  await (await waits).release();
});
