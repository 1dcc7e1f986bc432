// Plays the scenarios of ../../spec.json on the client; ../../README.md says what
// the steps and the lines on standard input and output mean.
import { AdminServiceClient, type Lock } from "./gen/locksidecar/v1/lock.js";
import { credentials, Metadata } from "@grpc/grpc-js";
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Client, LeaseLostError, LocksidecarError, type AcquireOptions, type Lease } from "./index.js";

/** How long a step may take. */
const STEP_MS = 30_000;

interface Options {
  ttl_ms?: number;
  wait_ms?: number;
  max_hold_ms?: number;
  shared?: boolean;
  reentrant?: boolean;
  priority?: number;
  owner?: string;
  metadata?: Record<string, string>;
  floor_above?: string;
  by?: number;
}

interface Step {
  do: string;
  client: string;
  lock: string;
  raw_lock?: string;
  as?: string;
  lease: string;
  pending: string;
  options?: Options;
  error?: string;
  details?: Record<string, string>;
  body: Step[];
  ran: boolean;
  reason?: string;
  above_ms: number;
  at_most_ms: number;
  count: number;
  is: number;
  owner?: string;
  metadata?: Record<string, string>;
  token_of?: string;
  leases: string[];
  by?: number;
  immediate?: boolean;
  to: string;
  accepted: boolean;
  ms: number;
  action: string;
}

interface Scenario {
  name: string;
  steps: Step[];
}

interface Waiting {
  lease: Promise<Lease>;
  abort: AbortController;
}

const { values } = parseArgs({ options: { endpoint: { type: "string" } } });
const endpoint = values.endpoint;
if (!endpoint) {
  console.error("--endpoint is required");
  process.exit(2);
}
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const admin = new AdminServiceClient(endpoint, credentials.createInsecure());

function say(message: Record<string, unknown>): void {
  process.stdout.write(JSON.stringify(message) + "\n");
}

async function hear(): Promise<Record<string, unknown> | undefined> {
  const { done, value } = await lines.next();
  return done ? undefined : (JSON.parse(value) as Record<string, unknown>);
}

/** One scenario, with clients and names of its own. */
class Play {
  readonly #prefix = randomUUID() + "/";
  readonly #clients = new Map<string, Client>();
  readonly #leases = new Map<string, Lease>();
  readonly #waiting = new Map<string, Waiting>();
  /** The highest token that wrote to each resource. */
  readonly #resources = new Map<string, bigint>();
  /** Sees what the scenario's clients do. */
  readonly #observer = new Client({ endpoint });

  async step(s: Step): Promise<void> {
    const play = this.#steps[s.do];
    assert(play, `unknown step ${s.do}`);
    const late = new AbortController();
    const timeout = sleep(STEP_MS, undefined, { signal: late.signal }).then(() => {
      throw new Error(`not within ${STEP_MS} ms`);
    });
    try {
      await Promise.race([play(s), timeout]);
    } finally {
      late.abort();
      timeout.catch(() => undefined);
    }
  }

  async end(): Promise<void> {
    for (const { abort, lease } of this.#waiting.values()) {
      lease.catch(() => undefined);
      abort.abort();
    }
    await Promise.all([...this.#clients.values(), this.#observer].map((c) => c.close()));
  }

  #client(name: string): Client {
    let client = this.#clients.get(name);
    if (!client) this.#clients.set(name, (client = new Client({ endpoint })));
    return client;
  }

  #lock(s: Step): string {
    return s.raw_lock ?? this.#prefix + s.lock;
  }

  #lease(name: string): Lease {
    const lease = this.#leases.get(name);
    assert(lease, `there is no lease ${name}`);
    return lease;
  }

  #options(o: Options = {}): AcquireOptions {
    return {
      ttlMs: o.ttl_ms,
      waitMs: o.wait_ms,
      maxHoldMs: o.max_hold_ms,
      shared: o.shared,
      reentrant: o.reentrant,
      priority: o.priority,
      owner: o.owner,
      metadata: o.metadata,
      tokenFloor: o.floor_above ? this.#lease(o.floor_above).token + BigInt(o.by ?? 1) : undefined,
    };
  }

  /** Ends as the step says: with its error, or without one. */
  async #outcome(s: Step, f: () => unknown): Promise<void> {
    try {
      await f();
    } catch (err) {
      if (!s.error || !(err instanceof LocksidecarError) || err.reason !== s.error) throw err;
      for (const [key, value] of Object.entries(s.details ?? {})) assert.equal(err.metadata[key], value, key);
      return;
    }
    assert(!s.error, `no error, want ${s.error}`);
  }

  async #until(what: () => Promise<boolean> | boolean): Promise<void> {
    for (const end = performance.now() + STEP_MS; performance.now() < end; await sleep(5)) if (await what()) return;
    throw new Error("in vain");
  }

  async #holder(s: Step) {
    const { holders } = await this.#observer.get(this.#lock(s));
    assert.equal(holders.length, 1, "holders");
    return holders[0] as Lock["holders"][number];
  }

  readonly #steps: Record<string, (s: Step) => Promise<void>> = {
    acquire: (s) =>
      this.#outcome(s, async () => {
        const lease = await this.#client(s.client).acquire(this.#lock(s), this.#options(s.options));
        if (s.as) this.#leases.set(s.as, lease);
      }),
    begin: async (s) => {
      const abort = new AbortController();
      const options = { ...this.#options(s.options), signal: abort.signal };
      const lease = this.#client(s.client).acquire(this.#lock(s), options);
      lease.catch(() => undefined); // whoever asks for it is told
      this.#waiting.set(s.as ?? "", { lease, abort });
    },
    granted: async (s) => {
      const waiting = this.#waiting.get(s.pending);
      assert(waiting, `nothing waits as ${s.pending}`);
      this.#leases.set(s.as ?? "", await waiting.lease);
    },
    cancel: async (s) => {
      const waiting = this.#waiting.get(s.pending);
      const reason = new Error("given up");
      waiting?.abort.abort(reason);
      await assert.rejects(waiting?.lease ?? Promise.resolve(), (err) => err === reason);
    },
    with: async (s) => {
      let ran = false;
      await this.#outcome(s, () =>
        this.#client(s.client).using(this.#lock(s), this.#options(s.options), async (lease) => {
          ran = true;
          if (s.as) this.#leases.set(s.as, lease);
          for (const inner of s.body) await this.step(inner);
        }),
      );
      assert.equal(ran, s.ran, "whether the body ran");
    },
    release: (s) => this.#outcome(s, () => this.#lease(s.lease).release()),
    check: (s) => this.#outcome(s, () => this.#lease(s.lease).check()),
    remaining: async (s) => {
      const ms = this.#lease(s.lease).remaining();
      assert(ms > s.above_ms && ms <= s.at_most_ms, `${ms} ms remain`);
    },
    lost: async (s) => {
      const { signal } = this.#lease(s.lease);
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
      assert(signal.reason instanceof LeaseLostError);
      if (s.reason) assert.equal(signal.reason.lostReason, s.reason);
    },
    attached: (s) => this.#until(() => this.#lease(s.lease).attached),
    waiters: (s) => this.#until(async () => (await this.#observer.get(this.#lock(s))).waiters.length === s.count),
    free: (s) =>
      this.#until(async () => {
        const { holders, waiters } = await this.#observer.get(this.#lock(s));
        return holders.length + waiters.length === 0;
      }),
    hold_count: async (s) => assert.equal((await this.#holder(s)).hold_count, s.is),
    holder: async (s) => {
      const holder = await this.#holder(s);
      if (s.owner) assert.equal(holder.owner_id, s.owner);
      if (s.metadata) assert.deepEqual({ ...holder.metadata }, s.metadata);
      if (s.token_of) assert.equal(holder.fencing_token, this.#lease(s.token_of).token);
    },
    token_rises: async (s) => {
      const tokens = s.leases.map((name) => this.#lease(name).token);
      const rise = (token: bigint, i: number): boolean => i === 0 || token >= (tokens[i - 1] as bigint) + BigInt(s.by ?? 1);
      assert(tokens.every(rise), `tokens ${tokens.join(", ")}`);
    },
    token_same: async (s) => assert.equal(new Set(s.leases.map((name) => this.#lease(name).token)).size, 1),
    force_release: (s) =>
      new Promise<void>((resolve, reject) =>
        admin.forceRelease(
          { lock_id: this.#lock(s), fencing_token: this.#lease(s.lease).token, reason: "scenario", immediate: s.immediate ?? false },
          new Metadata({ waitForReady: true }),
          (err) => (err ? reject(err) : resolve()),
        ),
      ),
    write: async (s) => {
      const { token } = this.#lease(s.lease);
      const accepted = token >= (this.#resources.get(s.to) ?? 0n);
      if (accepted) this.#resources.set(s.to, token);
      assert.equal(accepted, s.accepted);
    },
    pass: (s) => sleep(s.ms),
    close: (s) => this.#client(s.client).close(),
    sidecar: async (s) => {
      say({ sidecar: s.action });
      assert.deepEqual(await hear(), { done: s.action });
    },
  };
}

for (let message = await hear(); message; message = await hear()) {
  const play = new Play();
  let step = 0;
  try {
    const { steps } = message["run"] as Scenario;
    for (; step < steps.length; step++) await play.step(steps[step] as Step);
    await play.end();
    say({ result: "pass" });
  } catch (err) {
    await play.end();
    say({ result: "fail", step, message: err instanceof Error ? err.message : String(err) });
  }
}
admin.close();
