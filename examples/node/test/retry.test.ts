// What the client repeats, and how; against a sidecar that answers as it is told.
import assert from "node:assert/strict";
import { test } from "node:test";
import { status as Code } from "@grpc/grpc-js";
import { BackendUnavailableError, Client, DeadlockError, InvalidError, LeaseLostError, LocksidecarError, OutcomeUnknownError, errorTypes } from "@locksidecar/client";
import { errorMessage, Fake } from "./fake.js";

test("UNAVAILABLE is repeated under the same request id", async (t) => {
  const fake = new Fake(t, (_, n) => (n <= 4 ? errorMessage(Code.UNAVAILABLE, n % 2 ? "BACKEND_UNAVAILABLE" : "DRAINING") : undefined));
  await fake.ready;
  await using client = new Client({ endpoint: fake.endpoint });
  const lease = await client.acquire("a");
  assert.equal(fake.acquires.length, 5);
  assert.equal(new Set(fake.acquires.map((a) => a.request_id)).size, 1);
  await lease.release();
});

test("a stream that ends is opened again, and the request sent under the same id", async (t) => {
  const fake = new Fake(t, (_, n) => (n <= 3 ? "end" : undefined));
  await fake.ready;
  await using client = new Client({ endpoint: fake.endpoint });
  await client.acquire("a");
  assert.equal(fake.streams.length, 4);
  assert.equal(new Set(fake.acquires.map((a) => a.request_id)).size, 1);
});

test("an unknown outcome is repeated under the same request id", async (t) => {
  const fake = new Fake(t, (_, n) => (n === 1 ? errorMessage(Code.UNKNOWN, "OUTCOME_UNKNOWN") : undefined));
  await fake.ready;
  await using client = new Client({ endpoint: fake.endpoint });
  await client.acquire("a");
  assert.equal(new Set(fake.acquires.map((a) => a.request_id)).size, 1);
});

test("a try is not repeated, and says what is wrong", async (t) => {
  const fake = new Fake(t, () => errorMessage(Code.UNAVAILABLE, "BACKEND_UNAVAILABLE", { backend: "default" }));
  await fake.ready;
  await using client = new Client({ endpoint: fake.endpoint });
  await assert.rejects(
    client.acquire("a", { waitMs: 0 }),
    (err) => err instanceof BackendUnavailableError && err.retryable && err.metadata["backend"] === "default",
  );
  assert.equal(fake.acquires.length, 1);
});

test("patience ends", async (t) => {
  const ends = async (reason: string, type: typeof LocksidecarError): Promise<void> => {
    const fake = new Fake(t, () => errorMessage(reason === "OUTCOME_UNKNOWN" ? Code.UNKNOWN : Code.UNAVAILABLE, reason));
    await fake.ready;
    await using client = new Client({ endpoint: fake.endpoint, patienceMs: 2000 });
    await assert.rejects(client.acquire("a"), type);
    assert(fake.acquires.length > 1);
  };
  await Promise.all([ends("BACKEND_UNAVAILABLE", BackendUnavailableError), ends("OUTCOME_UNKNOWN", OutcomeUnknownError)]);
});

test("what repeating cannot help is not repeated", async (t) => {
  const fake = new Fake(t, () => errorMessage(Code.ABORTED, "DEADLOCK"));
  await fake.ready;
  await using client = new Client({ endpoint: fake.endpoint });
  await assert.rejects(client.acquire("a"), (err) => err instanceof DeadlockError && !err.retryable);
  assert.equal(fake.acquires.length, 1);
});

test("an acquire that was undone begins anew under another request id, a few times", async (t) => {
  const fake = new Fake(t, (_, n) => (n === 1 ? errorMessage(Code.ABORTED, "LEASE_LOST", { cause: "released" }) : undefined));
  await fake.ready;
  await using client = new Client({ endpoint: fake.endpoint });
  await client.acquire("a");
  assert.equal(new Set(fake.acquires.map((a) => a.request_id)).size, 2);

  const stubborn = new Fake(t, () => errorMessage(Code.ABORTED, "LEASE_LOST", { cause: "released" }));
  await stubborn.ready;
  await using other = new Client({ endpoint: stubborn.endpoint });
  await assert.rejects(other.acquire("a"), (err) => err instanceof LeaseLostError && err.lostReason === "released");
  assert(stubborn.acquires.length < 10);
});

test("a grant whose time is over is given back and asked for again", async (t) => {
  const fake: Fake = new Fake(t, (_, n) => {
    assert.equal(fake.releases.length, n - 1, "the release comes first");
    return n <= 2 ? "late" : undefined;
  });
  await fake.ready;
  await using client = new Client({ endpoint: fake.endpoint });
  const lease = await client.acquire("a", { owner: "me" });
  assert.deepEqual(fake.acquires.map((a) => a.owner_id), ["me", "me", "me"]);
  assert.deepEqual(fake.releases, fake.acquires.slice(0, 2).map((a) => a.request_id));
  lease.check();

  const always = new Fake(t, () => "late");
  await always.ready;
  await using other = new Client({ endpoint: always.endpoint });
  let ran = false;
  await assert.rejects(other.using("a", {}, () => (ran = true)), LeaseLostError);
  assert(!ran);
});

test("each reason is an error of its own class, also one that this client does not know yet", async (t) => {
  const reasons = [...Object.keys(errorTypes).map((r) => r.replace("INVALID_…", "INVALID_NEW_FIELD")), "NEW_REASON"];
  let reason = "";
  const fake = new Fake(t, () => errorMessage(Code.FAILED_PRECONDITION, reason, { cause: "expired", limits: "some" }));
  await fake.ready;
  await using client = new Client({ endpoint: fake.endpoint });
  for (reason of reasons) {
    const err = await client.acquire("a", { waitMs: 0 }).then(() => assert.fail("granted"), (err: unknown) => err);
    assert(err instanceof LocksidecarError);
    assert.equal(err.reason, reason);
    const want = errorTypes[reason] ?? (reason.startsWith("INVALID_") ? InvalidError : LocksidecarError);
    assert.equal(Object.getPrototypeOf(err), want.prototype, reason);
    assert.equal(err.name, want.name);
  }
  assert.equal(new Set(Object.values(errorTypes)).size, Object.keys(errorTypes).length);
});

test("streams name localhost, ask for renewals and pass the traceparent on", async (t) => {
  const fake = new Fake(t, () => undefined);
  await fake.ready;
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  await using client = new Client({ endpoint: fake.endpoint, traceparent: () => traceparent });
  await client.acquire("a", { metadata: { job: "nightly" }, traceparent: "00-of-the-request" });
  assert.deepEqual(fake.authorities, ["localhost"]);
  const [metadata] = fake.streams;
  assert.deepEqual(metadata?.get("traceparent"), [traceparent]);
  assert.deepEqual(metadata?.get("locksidecar-renewals"), ["1"]);
  assert.deepEqual({ ...fake.acquires[0]?.metadata }, { job: "nightly", traceparent: "00-of-the-request" });
});

test("leases and waits share one stream, which ends when nobody needs it", async (t) => {
  const fake = new Fake(t, () => undefined);
  await fake.ready;
  await using client = new Client({ endpoint: fake.endpoint });
  const leases = await Promise.all([client.acquire("a"), client.acquire("b")]);
  assert.equal(fake.streams.length, 1);
  await Promise.all(leases.map((l) => l.release()));
  assert.equal(fake.releases.length, 2);
  await new Promise((resolve) => setTimeout(resolve, 600)); // past the idle time, which is what is tested
  await client.acquire("a");
  assert.equal(fake.streams.length, 2);
});
