/** How a lock is asked for. */
import { randomBytes } from "node:crypto";
import { duration } from "./durations.js";
import { LimitExceededError } from "./errors.js";
import { AcquireRequest } from "./gen/locksidecar/v1/lock.js";
import { status as Code } from "@grpc/grpc-js";

/**
 * The largest acquire, in bytes: what a sidecar takes by default. One that is
 * much larger ends the stream, and with it whatever else is held on it.
 */
const LARGEST = 64 * 1024;

/** The longest duration, in milliseconds: some thirty years. */
const LONGEST_MS = 1e12;

/** How to acquire a lock. */
export interface AcquireOptions {
  /** How long the lease outlives its last renewal, in milliseconds. Left out: 15,000. */
  readonly ttlMs?: number | undefined;
  /**
   * How long to wait for the lock, in milliseconds, from when the sidecar is
   * there. Left out: until granted. 0: not at all.
   */
  readonly waitMs?: number | undefined;
  /** Gives the wait up. It has no part in the lease once that is granted. */
  readonly signal?: AbortSignal | undefined;
  /** Shared (read) mode instead of exclusive. */
  readonly shared?: boolean | undefined;
  /** Allow a further hold on a lease that this client holds as the same owner. */
  readonly reentrant?: boolean | undefined;
  /** 0 (left out) to 9: a head start in the queue. */
  readonly priority?: number | undefined;
  /** Who asks, for whoever inspects the lock. Left out: a name of the request's own. */
  readonly owner?: string | undefined;
  /** Shown to whoever inspects the lock. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** The longest time for which the sidecar renews the lease, in milliseconds. */
  readonly maxHoldMs?: number | undefined;
  /** Do not release when the process dies; the lease then ends by its TTL. */
  readonly linger?: boolean | undefined;
  /** The token is at least this: what a resource that refused a lower one asks for, plus one. */
  readonly tokenFloor?: bigint | undefined;
  /** A W3C traceparent that is kept in the lease's metadata. */
  readonly traceparent?: string | undefined;
}

/** A fresh secret that names a request. */
export function newRequestId(): string {
  return randomBytes(16).toString("hex");
}

/**
 * The request of the options.
 *
 * @throws what is wrong with it, if it cannot be sent. On the stream that would
 * be the end of all that is on it.
 */
export function acquireRequest(name: string, o: AcquireOptions): AcquireRequest {
  const metadata: Record<string, string> = { ...o.metadata };
  if (o.traceparent) metadata["traceparent"] = o.traceparent;
  const request: AcquireRequest = {
    lock_id: name,
    owner_id: o.owner ?? "",
    ttl: optional("ttlMs", o.ttlMs),
    wait: optional("waitMs", o.waitMs),
    shared: o.shared ?? false,
    reentrant: o.reentrant ?? false,
    priority: o.priority ?? 0,
    metadata,
    request_id: newRequestId(),
    lease_id: "",
    token_floor: o.tokenFloor ?? 0n,
    max_hold: optional("maxHoldMs", o.maxHoldMs),
    linger: o.linger ?? false,
  };
  const bytes = AcquireRequest.encode(request).finish().length;
  if (bytes > LARGEST) {
    throw new LimitExceededError({
      reason: "LIMIT_EXCEEDED",
      message: `the request has ${bytes} bytes; allowed: at most ${LARGEST}`,
      code: Code.RESOURCE_EXHAUSTED,
      metadata: { limit: "message" },
    });
  }
  return request;
}

function optional(name: string, ms: number | undefined) {
  if (ms === undefined) return undefined;
  if (!Number.isFinite(ms) || ms < 0 || ms > LONGEST_MS) {
    throw new RangeError(`${name} is ${ms}, want milliseconds from 0 to ${LONGEST_MS}`);
  }
  return duration(ms);
}
