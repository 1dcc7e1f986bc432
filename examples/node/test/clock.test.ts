// How long a lease may be relied on, whatever the clocks do.
import assert from "node:assert/strict";
import { test } from "node:test";
import { credentials } from "@grpc/grpc-js";
import { Clock } from "#client/clock.js";
import { inNanoseconds } from "#client/durations.js";
import { AcquireRequest, LockServiceClient, type Lease } from "#client/gen/locksidecar/v1/lock.js";
import { Sidecar } from "./sidecar.js";

const MS = 1_000_000n;
const S = 1000n * MS;

/** Clocks that a test moves. True boot time is `boot`; the uptime is cut to 10 ms. */
class Sources {
  boot = 5000n * S;
  mono = 77n * S;
  skew = 0n;
  missing = false;
  monotonic = (): bigint => this.mono;
  uptime = (): bigint | undefined => (this.missing ? undefined : (this.boot + this.skew) - ((this.boot + this.skew) % (10n * MS)));
  pass(ns: bigint): void {
    this.boot += ns;
    this.mono += ns;
  }
  suspend(ns: bigint): void {
    this.boot += ns;
  }
}

test("a lease counts down on both clocks, and is never longer than the sidecar says", () => {
  const at = new Sources();
  const clock = new Clock(at);
  const asked = clock.boot();
  const end = at.boot + 10n * S;
  const deadline = clock.deadline(end, 10n * S, asked);
  assert(clock.bootTrusted);
  for (let i = 0; i < 997; i++) {
    const left = Number(end - at.boot) / 1e6;
    const said = clock.remaining(deadline);
    assert(said <= left && said >= left - 10, `${said} ms are said to be left of ${left}`);
    at.pass(9_999_999n);
  }
  at.pass(S);
  assert.equal(clock.remaining(deadline), 0);
});

test("suspend counts", () => {
  const at = new Sources();
  const clock = new Clock(at);
  const deadline = clock.deadline(at.boot + 10n * S, 10n * S, clock.boot());
  at.suspend(9n * S);
  assert(clock.remaining(deadline) <= 1000);
  at.suspend(2n * S);
  assert.equal(clock.remaining(deadline), 0);
});

test("a message that was read late prolongs nothing, even without boot time", () => {
  const at = new Sources();
  at.missing = true;
  const clock = new Clock(at);
  clock.deadline(at.boot + 2n * S, 2n * S);
  const end = at.boot + 3n * S; // sent a second before, with two seconds to go
  at.pass(2n * S);
  const deadline = clock.deadline(end, 2n * S);
  assert.equal(clock.remaining(deadline), 1000);
});

for (const [what, skew] of [["behind", -1000n * S], ["ahead", 1000n * S]] as const) {
  test(`an uptime of another namespace, ${what}, is found out and not used`, () => {
    const at = new Sources();
    at.skew = skew;
    const clock = new Clock(at);
    const asked = clock.boot();
    at.pass(1n * MS);
    const deadline = clock.deadline(at.boot + 10n * S, 10n * S, asked);
    assert(!clock.bootTrusted);
    assert.equal(clock.remaining(deadline), 10_000);
    at.pass(4n * S);
    assert.equal(clock.remaining(deadline), 6000);
  });
}

test("a real sidecar counts by the clock that /proc/uptime shows", async (t) => {
  const sidecar = await Sidecar.start(t);
  const stub = new LockServiceClient(sidecar.endpoint, credentials.createInsecure());
  t.after(() => stub.close());
  const clock = new Clock();
  for (let i = 0; i < 20; i++) {
    const askedAt = clock.boot();
    const lease = await new Promise<Lease>((resolve, reject) =>
      stub.acquire(AcquireRequest.fromPartial({ lock_id: `clock/${i}` }), (err, answer) => (err ? reject(err) : resolve(answer))),
    );
    const validFor = inNanoseconds(lease.valid_for);
    const left = clock.remaining(clock.deadline(lease.valid_until_boottime_ns, validFor, askedAt));
    assert(left > 0 && left <= Number(validFor) / 1e6, `${left} ms of ${validFor} ns`);
    assert(clock.bootTrusted, "/proc/uptime is not the sidecar's clock");
  }
});
