/** An acquire on its way: one promise, as many requests as it takes. */
import { newRequestId, type AcquireOptions } from "./acquire.js";
import { duration } from "./durations.js";
import type { AcquireRequest } from "./gen/locksidecar/v1/lock.js";
import type { Lease, Terms } from "./lease.js";

/** How much longer than the wait an answer may take. */
const ANSWER_MS = 5000;

/** How often an acquire begins anew when its request has come to nothing. */
const RESTARTS = 3;

/** An acquire that is not answered yet. Instants are of the monotonic clock, in nanoseconds. */
export class Pending {
  readonly begun: bigint;
  /** Boot time before the first request, for the clock. */
  askedAt: bigint | undefined;
  /** How often the request was sent under its id. */
  sends = 0;
  /** How often it was refused since it last got on. */
  failures = 0;
  /** The sidecar has nothing of it any more, or the lease is the application's. */
  answered = false;
  /** Its promise is settled. */
  over = false;
  settle: (lease: Lease) => void = () => undefined;
  fail: (error: unknown) => void = () => undefined;

  readonly #options: AcquireOptions;
  #request: AcquireRequest;
  #restarts = 0;
  #firstSent: bigint | undefined;
  #failingSince: bigint | undefined;
  #pause: NodeJS.Timeout | undefined;
  #guard: NodeJS.Timeout | undefined;

  constructor(request: AcquireRequest, options: AcquireOptions, now: bigint) {
    this.#request = request;
    this.#options = options;
    this.begun = now;
  }

  get requestId(): string {
    return this.#request.request_id;
  }

  get lock(): string {
    return this.#request.lock_id;
  }

  /** Whether it waits to be sent again. */
  get paused(): boolean {
    return this.#pause !== undefined;
  }

  /** The request to send now, with what is left of its wait. */
  sending(now: bigint, boot: bigint | undefined): AcquireRequest {
    this.#firstSent ??= now;
    if (this.sends++ === 0) this.askedAt = boot;
    const { waitMs } = this.#options;
    if (waitMs === undefined) return this.#request;
    const spent = Number(now - this.#firstSent) / 1e6;
    return { ...this.#request, wait: duration(Math.max(0, waitMs - spent)) };
  }

  /** Calls f if the answer to a bounded wait stays away. */
  guard(f: () => void): void {
    const { waitMs } = this.#options;
    if (waitMs !== undefined) this.#guard ??= setTimeout(f, Math.min(waitMs + ANSWER_MS, 2 ** 31 - 1));
  }

  /** Whether to ask again after a failure: for so long, and not past the wait. */
  patient(patienceMs: number, now: bigint): boolean {
    if (this.failures === 0) this.#failingSince = now;
    const failing = Number(now - (this.#failingSince ?? now)) / 1e6;
    return failing < Math.min(patienceMs, this.#options.waitMs ?? Infinity);
  }

  /** Calls f after a pause. */
  later(ms: number, f: () => void): void {
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      f();
    }, ms);
  }

  /** Takes another request id; false if that was done often enough. */
  renew(): boolean {
    if (this.#restarts++ >= RESTARTS) return false;
    this.#request = { ...this.#request, request_id: newRequestId() };
    this.sends = 0;
    this.answered = false;
    return true;
  }

  /** How the lease was asked for. */
  terms(now: bigint): Terms {
    const { maxHoldMs, linger } = this.#options;
    return {
      requestId: this.requestId,
      linger: linger ?? false,
      holdUntil: maxHoldMs === undefined ? undefined : now + BigInt(Math.round(maxHoldMs * 1e6)),
    };
  }

  /** Nothing more comes of it. */
  stop(): void {
    this.over = true;
    clearTimeout(this.#pause);
    clearTimeout(this.#guard);
    this.#pause = this.#guard = undefined;
  }
}
