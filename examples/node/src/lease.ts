/** A lease, as the application has it. */
import type { Clock, Deadline } from "./clock.js";
import { duration, milliseconds, nanoseconds } from "./durations.js";
import type { LeaseLostError } from "./errors.js";
import type { AdoptRequest, Lease as LeaseMessage } from "./gen/locksidecar/v1/lock.js";
import { leaseLost } from "./status.js";

/**
 * A lease that the sidecar renews until it is released or lost. It belongs to
 * the client that acquired it: it cannot be sent to a worker thread.
 */
export interface Lease {
  /** The lock's name. */
  readonly name: string;
  /** The fencing token: give it to the protected resource with every write. */
  readonly token: bigint;
  /** The owner as the store knows it. */
  readonly owner: string;
  /** Shared (read) mode instead of exclusive. */
  readonly shared: boolean;
  /** How many acquires held the lease when it was granted. */
  readonly holdCount: number;
  /** The lease's TTL; more than asked for if the store rounded it up. */
  readonly ttlMs: number;
  /** Aborted when the lease is lost, with the {@link LeaseLostError} as its reason. */
  readonly signal: AbortSignal;
  /**
   * Why the lease does not stand any more; undefined while it may be relied on.
   * It looks at the clock: what it has once answered with an error is lost for
   * good.
   */
  readonly lost: LeaseLostError | undefined;
  /** Whether the sidecar renews the lease on a stream that is open now. */
  readonly attached: boolean;
  /** Throws {@link LeaseLostError} unless the lease may be relied on now. */
  check(): void;
  /**
   * The same once the event loop has read what has arrived. After a computation
   * that blocked the loop past the lease's end the renewals lie unread, and
   * {@link Lease.check} cannot know of them.
   */
  confirm(): Promise<void>;
  /** Milliseconds for which the lease may be relied on; 0 if it is lost or released. */
  remaining(): number;
  /**
   * Gives the lease back and waits for the answer. If the lease was lost, the
   * release is sent all the same, since it tells the next in line that the lock
   * is not used any more, and then {@link LeaseLostError} is thrown. Releasing
   * again does nothing.
   */
  release(): Promise<void>;
  /** The same as {@link Lease.release}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What a lease needs of its client. */
export interface Keeper {
  readonly clock: Clock;
  /** The lease is lost; unreleased: the sidecar may not know it. */
  onLost(lease: HeldLease, error: LeaseLostError, unreleased: boolean): void;
  /** Releases the lease; lost: there is nothing to wait long for. */
  giveBack(lease: HeldLease, lost: boolean): Promise<void>;
}

/** How a lease was asked for, as far as it must be repeated at an adopt. */
export interface Terms {
  readonly requestId: string;
  readonly linger: boolean;
  /** Instant of the monotonic clock at which the sidecar ends the hold. */
  readonly holdUntil: bigint | undefined;
}

/** Turns of the event loop in which what has arrived is read. */
const TURNS = 3;

/** A {@link Lease} with the client's side of it. */
export class HeldLease implements Lease {
  readonly name: string;
  readonly token: bigint;
  readonly owner: string;
  readonly shared: boolean;
  readonly holdCount: number;
  readonly ttlMs: number;
  readonly #message: LeaseMessage;
  readonly #keeper: Keeper;
  readonly #terms: Terms;
  readonly #loss = new AbortController();
  #attached = true;
  #deadline: Deadline;
  #state: "held" | "lost" | "released" = "held";
  #error: LeaseLostError | undefined;
  #timer: NodeJS.Timeout | undefined;
  #releasing: Promise<void> | undefined;

  constructor(keeper: Keeper, terms: Terms, message: LeaseMessage, deadline: Deadline) {
    this.#keeper = keeper;
    this.#terms = terms;
    this.#message = message;
    this.#deadline = deadline;
    this.name = message.lock_id;
    this.token = message.fencing_token;
    this.owner = message.owner_id;
    this.shared = message.shared;
    this.holdCount = message.hold_count;
    this.ttlMs = milliseconds(message.ttl);
    this.#arm();
  }

  get signal(): AbortSignal {
    return this.#loss.signal;
  }

  get lost(): LeaseLostError | undefined {
    if (this.#state === "held" && !this.#releasing && this.#left() === 0) this.lose("unreachable", true);
    return this.#error;
  }

  get attached(): boolean {
    return this.#attached && this.#state === "held";
  }

  check(): void {
    const error = this.lost ?? (this.#releasing || this.#state === "released" ? leaseLost(this.name, "released") : undefined);
    if (error) throw error;
  }

  async confirm(): Promise<void> {
    await this.#catchUp();
    this.check();
  }

  remaining(): number {
    return this.lost || this.#releasing || this.#state === "released" ? 0 : this.#left();
  }

  // A property, not a method: it makes the lease one of the things that cannot
  // be cloned, and so cannot be sent to another thread.
  readonly release = (): Promise<void> => {
    if (this.#releasing) return this.#releasing.catch(() => undefined);
    this.#releasing = this.#release();
    return this.#releasing;
  };

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  async #release(): Promise<void> {
    await this.#catchUp();
    if (this.#state === "held" && this.#left() === 0) this.lose("unreachable", true);
    const lost = this.#error;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (!lost) this.#state = "released";
    await this.#keeper.giveBack(this, lost !== undefined);
    if (lost) throw lost;
  }

  /** Whether the client is to keep the lease on a stream. */
  get held(): boolean {
    return this.#state === "held";
  }

  get requestId(): string {
    return this.#terms.requestId;
  }

  /** What names the lease and its hold to the sidecar. */
  get ref(): { lock_id: string; lease_id: string; fencing_token: bigint; request_id: string } {
    const { lock_id, lease_id, fencing_token } = this.#message;
    return { lock_id, lease_id, fencing_token, request_id: this.#terms.requestId };
  }

  /** The request that attaches the lease to another stream. */
  adoption(): AdoptRequest {
    const { holdUntil, linger } = this.#terms;
    const left = holdUntil === undefined ? undefined : holdUntil - this.#keeper.clock.monotonic();
    const maxHold = left === undefined ? undefined : nanoseconds(left > 0n ? left : 1n);
    return { ...this.ref, ttl: duration(this.ttlMs), max_hold: maxHold, linger };
  }

  /** The stream that the lease was on has ended. */
  detach(): void {
    this.#attached = false;
  }

  attach(): void {
    this.#attached = true;
  }

  /** The lease was confirmed; an older confirmation than the last changes nothing. */
  prolong(deadline: Deadline): void {
    if (this.#state !== "held" || deadline.boot <= this.#deadline.boot) return;
    this.#deadline = deadline;
    this.#arm();
  }

  /** The lease is lost, once and for good. */
  lose(reason: string, unreleased: boolean): void {
    if (this.#state !== "held") return;
    this.#state = "lost";
    this.#error = leaseLost(this.name, reason);
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#keeper.onLost(this, this.#error, unreleased);
    this.#loss.abort(this.#error);
  }

  #left(): number {
    return this.#keeper.clock.remaining(this.#deadline);
  }

  /** Looks again when the deadline must have passed. */
  #arm(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#due(), Math.ceil(this.#left()));
  }

  async #due(): Promise<void> {
    await this.#catchUp();
    if (this.#state !== "held") return;
    if (this.#left() > 0) this.#arm();
    else this.lose("unreachable", true);
  }

  /**
   * Reads what has arrived, if the lease seems to be over: after the event loop
   * was blocked, renewals that came in time are still to be read. Whoever asks
   * meanwhile is told that the lease is lost, and then it is.
   */
  async #catchUp(): Promise<void> {
    for (let i = 0; i < TURNS && this.#state === "held" && this.#left() === 0; i++) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
