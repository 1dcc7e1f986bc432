// Each example does what it says, as a process of its own.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Client } from "@locksidecar/client";
import { directory, eventually, Program, Sidecar } from "./sidecar.js";

function example(t: TestContext, sidecar: Sidecar, name: string, ...args: string[]): Program {
  return new Program(t, `examples/${name}.js`, args, { LOCKSIDECAR_ENDPOINT: sidecar.endpoint });
}

test("counter: no increment is lost", async (t) => {
  const sidecar = await Sidecar.start(t);
  const file = join(directory(t), "counter");
  await writeFile(file, "0");
  const programs = Array.from({ length: 3 }, () => example(t, sidecar, "counter", file, "100"));
  for (const program of programs) assert.equal(await program.ended, 0, program.output);
  assert.equal(await readFile(file, "ascii"), "300");
});

test("leader: the next one leads when the first is gone, with a greater token", async (t) => {
  const sidecar = await Sidecar.start(t);
  const first = example(t, sidecar, "leader", "first");
  const [, token] = await first.prints(/first leads with token (\d+)/);
  const second = example(t, sidecar, "leader", "second");
  await using client = new Client({ endpoint: sidecar.endpoint });
  await eventually("the second waits", async () => (await client.get("examples/leader")).waiters.length === 1);
  first.child.kill("SIGKILL");
  const [, next] = await second.prints(/second leads with token (\d+)/);
  assert(BigInt(next ?? 0) > BigInt(token ?? 0));
  // A leader whose sidecar has gone stops leading, and leads again when it is back.
  await sidecar.kill();
  await second.prints(/second leads no more/);
  await sidecar.start();
  await second.prints(/no more[^]*second leads with token/);
  second.child.kill("SIGTERM");
  assert.equal(await second.ended, 0, second.output);
  assert.match(second.output, /second has stopped/);
});

test("cron: a tick is run once", async (t) => {
  const sidecar = await Sidecar.start(t);
  const file = join(directory(t), "ticks");
  for (const tick of ["10:00", "11:00"]) {
    const programs = Array.from({ length: 4 }, () => example(t, sidecar, "cron", tick, file));
    for (const program of programs) assert.equal(await program.ended, 0, program.output);
    assert.equal(programs.filter((p) => p.output === "ran\n").length, 1, programs.map((p) => p.output).join());
  }
  const late = example(t, sidecar, "cron", "11:00", file);
  assert.equal(await late.ended, 0, late.output);
  assert.equal(late.output, "done before\n");
  assert.equal((await readFile(file, "utf8")).trim().split("\n").length, 2);
});

test("guarded-write: a stale token is refused", async (t) => {
  const sidecar = await Sidecar.start(t);
  const program = example(t, sidecar, "guarded-write");
  assert.equal(await program.ended, 0, program.output);
  assert.deepEqual(program.output.trim().split("\n"), [
    "the second holder wrote 100",
    "refused: token … is stale, the last write had …",
    "the first lease: max_hold",
    "the balance is 101",
  ]);
});

test("web: requests of one account go one after the other", async (t) => {
  const sidecar = await Sidecar.start(t);
  const program = example(t, sidecar, "web");
  const [, url] = await program.prints(/listening at (\S+)/);
  const deposit = (id: string, signal?: AbortSignal): Promise<Response> =>
    fetch(`${url}/accounts/${id}/deposit`, { method: "POST", signal: signal ?? null });
  // Who has waited too long for the others is told so, and asks again.
  const paid = async (): Promise<number> => {
    for (;;) {
      const response = await deposit("42");
      const { balance } = (await response.json()) as { balance: number };
      if (response.status !== 409) return balance;
    }
  };
  const balances = await Promise.all(Array.from({ length: 50 }, paid));
  assert.deepEqual(balances.sort((a, b) => a - b), Array.from({ length: 50 }, (_, i) => i + 1));

  await using client = new Client({ endpoint: sidecar.endpoint });
  const lock = "examples/account/7";
  const held = await client.acquire(lock);
  const refused = await deposit("7");
  assert.equal(refused.status, 409);
  assert.deepEqual(await refused.json(), { error: "LOCK_HELD" });
  assert.equal(refused.headers.get("Retry-After"), "1");

  // A client that goes leaves the queue. It asks until it is seen to wait, since
  // its wait is short.
  const gone = new AbortController();
  const leaving = (async () => {
    while ((await deposit("7", gone.signal)).status === 409);
  })();
  leaving.catch(() => undefined);
  await eventually("it waits", async () => (await client.get(lock)).waiters.length === 1);
  gone.abort();
  await assert.rejects(leaving, { name: "AbortError" });
  await eventually("its place is gone", async () => (await client.get(lock)).waiters.length === 0);
  await held.release();
  assert.equal((await deposit("7")).status, 200);
  assert.equal((await deposit("a(b)")).status, 400);

  program.child.kill("SIGTERM");
  assert.equal(await program.ended, 0, program.output);
});
