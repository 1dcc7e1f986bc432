// A Hold stream: the sidecar renews what is held on it, for as long as it is
// open.
import { credentials, type ClientDuplexStream } from "@grpc/grpc-js";
import { randomUUID } from "node:crypto";
import { AcquireRequest, HoldRequest, HoldResponse, Lease, LockServiceClient } from "./gen/locksidecar/v1/lock.js";

export { LockServiceClient } from "./gen/locksidecar/v1/lock.js";

/** Connects to a sidecar's socket and waits up to patienceMs for it. */
export async function dial(endpoint: string, patienceMs = 10_000): Promise<LockServiceClient> {
  const client = new LockServiceClient(endpoint, credentials.createInsecure());
  await new Promise<void>((resolve, reject) =>
    client.waitForReady(Date.now() + patienceMs, (err) => (err ? reject(err) : resolve())),
  );
  return client;
}

/** The lock was refused, or the stream ended. */
export class NotGranted extends Error {}

type Event = NonNullable<HoldResponse["event"]>;

/** One stream that holds locks. */
export class Holder {
  readonly #stream: ClientDuplexStream<HoldRequest, HoldResponse>;
  readonly #waiting = new Map<string, (event: Event) => void>();

  constructor(client: LockServiceClient, onLost: (reason: string) => void = () => {}) {
    this.#stream = client.hold();
    this.#stream.on("data", (response: HoldResponse) => {
      const event = response.event;
      if (!event || event.$case === "queued") return;
      const answer = this.#waiting.get(response.request_id);
      this.#waiting.delete(response.request_id);
      if (event.$case === "lost") onLost(event.value.reason);
      answer?.(event);
    });
    this.#stream.on("error", () => onLost("stream ended"));
  }

  /** Waits until the lock is granted. */
  async acquire(lockId: string, ttlMs: number): Promise<Lease> {
    const request = AcquireRequest.fromPartial({
      lock_id: lockId,
      request_id: randomUUID(),
      ttl: { seconds: BigInt(Math.floor(ttlMs / 1000)), nanos: (ttlMs % 1000) * 1_000_000 },
    });
    const event = await this.#ask(request.request_id, { $case: "acquire", value: request });
    if (event.$case !== "granted") throw new NotGranted(JSON.stringify(event.$case));
    return event.value;
  }

  /** Gives the lease back and waits for the answer. */
  async release(lease: Lease): Promise<void> {
    const { lock_id, lease_id, fencing_token, request_id } = lease;
    const event = await this.#ask(request_id, { $case: "release", value: { lock_id, lease_id, fencing_token, request_id } });
    if (event.$case !== "released") throw new NotGranted(JSON.stringify(event.$case));
  }

  /** Ends the stream, which releases what is still held. */
  close(): void {
    this.#stream.cancel();
  }

  #ask(requestId: string, request: NonNullable<HoldRequest["request"]>): Promise<Event> {
    return new Promise((resolve) => {
      this.#waiting.set(requestId, resolve);
      this.#stream.write({ request });
    });
  }
}
