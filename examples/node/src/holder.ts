/** What a client holds and waits for, and the stream that it is on. */
import { fullJitter } from "./backoff.js";
import { Clock, type Deadline } from "./clock.js";
import { inNanoseconds } from "./durations.js";
import {
  ClientClosedError,
  DrainingError,
  InvalidError,
  LeaseLostError,
  LocksidecarError,
  NotOwnerError,
  PermissionDeniedError,
  SidecarUnavailableError,
  StaleTokenError,
  UnsupportedError,
} from "./errors.js";
import type { HoldResponse, Lease as LeaseMessage, ReleaseRequest, ReleaseResponse } from "./gen/locksidecar/v1/lock.js";
import { observe, type Hooks } from "./hooks.js";
import { HeldLease, type Keeper, type Lease } from "./lease.js";
import type { Pending } from "./pending.js";
import { fromMessage, leaseLost } from "./status.js";
import { HoldStream, type Follower } from "./stream.js";

/** How long a stream without anything on it stays open for what may come. */
const IDLE_MS = 250;

/** How long a release that changes nothing any more may take. */
const PARTING_MS = 2000;

/** How a holder works. */
export interface HolderOptions {
  readonly endpoint: string | undefined;
  readonly patienceMs: number;
  readonly hooks: Hooks;
  readonly traceparent: () => string | undefined;
}

/** Holds the leases of one client, and its waits. */
export class Holder {
  readonly clock = new Clock();
  readonly stream: HoldStream;
  readonly #patienceMs: number;
  readonly #hooks: Hooks;
  readonly #keeper: Keeper;
  /** By request id, as are the others. */
  readonly #pending = new Map<string, Pending>();
  readonly #leases = new Map<string, HeldLease>();
  /** Leases whose adopt waits for its answer. */
  readonly #adopting = new Map<string, { askedAt: bigint | undefined; failures: number }>();
  /** Releases that wait for their answer. */
  readonly #answers = new Map<string, (err: LocksidecarError | undefined) => void>();
  /** The locks of acquires that were given up and not answered yet. */
  readonly #abandoned = new Map<string, string>();
  #resting: NodeJS.Timeout | undefined;
  #closing = false;

  constructor(options: HolderOptions) {
    this.#patienceMs = options.patienceMs;
    this.#hooks = options.hooks;
    const follower: Follower = {
      needed: () => this.#needed(),
      opened: () => this.#opened(),
      event: (response) => this.#event(response),
      broke: (error) => this.#broke(error),
      missing: (downMs, error) => this.#missing(downMs, error),
    };
    this.stream = new HoldStream(follower, options.endpoint, options.traceparent);
    this.#keeper = {
      clock: this.clock,
      onLost: (lease, error, unreleased) => this.#onLost(lease, error, unreleased),
      giveBack: (lease, lost) => this.#giveBack(lease, lost),
    };
  }

  /** Gives up what waits, releases what is held, and ends the stream. */
  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#resting);
    for (const pending of [...this.#pending.values()]) this.#reject(pending, new ClientClosedError());
    const parting = [...this.#leases.values()].map((lease) => {
      lease.lose("closed", false);
      return this.#giveBack(lease, false, PARTING_MS);
    });
    await Promise.allSettled(parting);
    await this.stream.close(PARTING_MS);
  }

  /** Waits until the acquire is granted, or given up by the signal. */
  wait(pending: Pending, signal: AbortSignal | undefined): Promise<Lease> {
    return new Promise<Lease>((resolve, reject) => {
      const aborted = (): void => this.#reject(pending, signal?.reason);
      const settled = (): void => {
        this.#pending.delete(pending.requestId);
        pending.stop();
        signal?.removeEventListener("abort", aborted);
        this.#rest();
      };
      pending.settle = (lease) => {
        settled();
        resolve(lease);
      };
      pending.fail = (error) => {
        settled();
        reject(error);
      };
      signal?.addEventListener("abort", aborted);
      this.#pending.set(pending.requestId, pending);
      this.#busy();
      if (this.stream.stands) this.#ask(pending);
    });
  }

  #ask(pending: Pending): void {
    const boot = this.clock.boot();
    this.stream.send({ $case: "acquire", value: pending.sending(this.clock.monotonic(), boot) });
    pending.guard(() =>
      this.#reject(pending, new SidecarUnavailableError("the sidecar does not answer, though the wait has run out")),
    );
  }

  /** Ends a wait; what the sidecar has of it is given up. */
  #reject(pending: Pending, error: unknown): void {
    if (pending.sends > 0 && !pending.answered) this.#abandon(pending);
    pending.fail(error);
  }

  #abandon(pending: Pending): void {
    this.#abandoned.set(pending.requestId, pending.lock);
    this.#undo(pending.requestId, pending.lock);
  }

  #undo(requestId: string, lock: string): void {
    const value: ReleaseRequest = { lock_id: lock, request_id: requestId, lease_id: "", fencing_token: 0n };
    this.stream.send({ $case: "release", value });
  }

  #granted(pending: Pending, message: LeaseMessage): void {
    const deadline = this.#deadline(message, pending.askedAt);
    if (this.clock.remaining(deadline) === 0) {
      void this.#tooLate(pending, message);
      return;
    }
    pending.answered = true;
    const lease = new HeldLease(this.#keeper, pending.terms(this.clock.monotonic()), message, deadline);
    this.#leases.set(pending.requestId, lease);
    pending.settle(lease);
  }

  /** A grant that was read when its time was over is given back, and asked for again. */
  async #tooLate(pending: Pending, message: LeaseMessage): Promise<void> {
    pending.answered = true;
    this.#pending.delete(pending.requestId);
    // First: the owner must not be refused because it still holds the lock.
    await this.#release(this.#refOf(message), performance.now() + PARTING_MS);
    if (!pending.over) this.#again(pending, leaseLost(pending.lock, "unreachable"));
  }

  #refused(pending: Pending, error: LocksidecarError): void {
    if (error instanceof LeaseLostError) {
      this.#again(pending, error);
    } else if (error.retryable && pending.patient(this.#patienceMs, this.clock.monotonic())) {
      pending.later(fullJitter(pending.failures++), () => {
        if (this.stream.stands) this.#ask(pending);
      });
    } else {
      pending.answered = true;
      this.#reject(pending, error);
    }
  }

  /** The request came to its end without a lease that can be used: begins anew. */
  #again(pending: Pending, error: LocksidecarError): void {
    this.#pending.delete(pending.requestId);
    if (this.#closing || !pending.renew()) {
      pending.fail(error);
      return;
    }
    this.#pending.set(pending.requestId, pending);
    this.#busy();
    if (this.stream.stands) this.#ask(pending);
  }

  // What is held.

  #adopt(lease: HeldLease, failures = 0): void {
    if (!lease.held || lease.attached || !this.stream.stands) return;
    const askedAt = this.clock.boot();
    this.#adopting.set(lease.requestId, { askedAt, failures });
    this.stream.send({ $case: "adopt", value: lease.adoption() });
  }

  #adopted(lease: HeldLease, message: LeaseMessage): void {
    const asked = this.#adopting.get(lease.requestId);
    this.#adopting.delete(lease.requestId);
    lease.prolong(this.#deadline(message, asked?.askedAt));
    if (lease.lost) return;
    lease.attach();
  }

  #notAdopted(lease: HeldLease, error: LocksidecarError): void {
    const asked = this.#adopting.get(lease.requestId);
    this.#adopting.delete(lease.requestId);
    if (error instanceof LeaseLostError) lease.lose(error.lostReason, false);
    else if (error instanceof NotOwnerError || error instanceof StaleTokenError) lease.lose("unknown", false);
    else {
      // It says nothing of the lease, whose end the clock knows.
      const failures = (asked?.failures ?? 0) + 1;
      setTimeout(() => this.#adopt(lease, failures), fullJitter(failures));
    }
  }

  #onLost(lease: HeldLease, error: LeaseLostError, unreleased: boolean): void {
    const attached = this.#leases.get(lease.requestId) === lease && this.stream.stands;
    this.#leases.delete(lease.requestId);
    // The sidecar would renew for ever what is not used any more.
    if (unreleased && attached) this.stream.send({ $case: "release", value: lease.ref });
    if (this.#closing) return;
    observe(this.#hooks, "lost", { lock: lease.name, token: lease.token, reason: error.lostReason });
    this.#rest();
  }

  /** Releases a lease: on its stream, or by a call if it is on none. */
  async #giveBack(lease: HeldLease, lost: boolean, withinMs = Math.max(PARTING_MS, lease.ttlMs)): Promise<void> {
    const onStream = this.stream.stands && !this.#adopting.has(lease.requestId);
    const until = performance.now() + (lost ? PARTING_MS : withinMs);
    this.#leases.delete(lease.requestId);
    try {
      if (onStream) {
        const unanswered = await this.#release(lease.ref, until);
        if (!unanswered?.retryable) {
          if (unanswered) throw unanswered;
          return;
        }
      }
      if (lost && !this.stream.stands) return;
      await this.stream.unary<ReleaseResponse>(
        (client, metadata, options, done) => client.release(lease.ref, metadata, options, done),
        until,
      );
    } catch (err) {
      if (!lost) throw err;
    } finally {
      this.#rest();
    }
  }

  /** Releases on the open stream, and returns why it was not released. */
  #release(ref: ReleaseRequest, until: number): Promise<LocksidecarError | undefined> {
    return new Promise((resolve) => {
      const answer = (err: LocksidecarError | undefined): void => {
        clearTimeout(timer);
        this.#answers.delete(ref.request_id);
        resolve(err);
      };
      const timer = setTimeout(
        () => answer(new SidecarUnavailableError("the sidecar does not answer a release")),
        until - performance.now(),
      );
      this.#answers.set(ref.request_id, answer);
      this.stream.send({ $case: "release", value: ref });
    });
  }

  // What the stream tells.

  #event(response: HoldResponse): void {
    const { request_id: id, event } = response;
    if (!event) return;
    const pending = this.#pending.get(id);
    const lease = this.#leases.get(id);
    switch (event.$case) {
      case "queued":
        if (!pending) return;
        pending.failures = 0;
        observe(this.#hooks, "wait", {
          lock: response.lock_id,
          position: event.value.position,
          queueLength: event.value.queue_length,
        });
        return;
      case "granted":
        if (pending) this.#granted(pending, event.value);
        else if (lease) this.#adopted(lease, event.value);
        else if (this.#adopting.delete(id) || !this.#abandoned.has(id) && !this.#answers.has(id)) {
          // Nobody waits for it any more.
          this.stream.send({ $case: "release", value: this.#refOf(event.value) });
        }
        return;
      case "renewed":
        lease?.prolong(this.#deadline(event.value));
        return;
      case "lost":
        lease?.lose(event.value.reason, false);
        return;
      case "released":
        this.#ended(id);
        this.#answers.get(id)?.(undefined);
        return;
      case "error": {
        const error = fromMessage(event.value);
        this.#ended(id);
        if (pending) this.#refused(pending, error);
        else if (lease) this.#notAdopted(lease, error);
        else if (!this.#adopting.delete(id)) this.#answers.get(id)?.(error);
        return;
      }
      case "at_risk":
        return; // the lease's own clock says the same
    }
  }

  #ended(requestId: string): void {
    if (this.#abandoned.delete(requestId)) this.#rest();
  }

  #deadline(message: LeaseMessage, askedAt?: bigint): Deadline {
    return this.clock.deadline(message.valid_until_boottime_ns, inNanoseconds(message.valid_for), askedAt);
  }

  #refOf({ lock_id, lease_id, fencing_token, request_id }: LeaseMessage): ReleaseRequest {
    return { lock_id, lease_id, fencing_token, request_id };
  }

  // The stream itself.

  #needed(): boolean {
    return (
      this.#pending.size > 0 ||
      this.#leases.size > 0 ||
      (this.stream.stands && (this.#answers.size > 0 || this.#abandoned.size > 0))
    );
  }

  #busy(): void {
    clearTimeout(this.#resting);
    this.#resting = undefined;
    this.stream.want();
  }

  /** Lets go of a stream that nobody needs, which would keep the process alive. */
  #rest(): void {
    if (this.#needed() || this.#closing) return;
    clearTimeout(this.#resting);
    this.#resting = setTimeout(() => {
      if (!this.#needed()) this.stream.rest();
    }, IDLE_MS);
  }

  #opened(): void {
    for (const [requestId, lock] of this.#abandoned) this.#undo(requestId, lock);
    for (const lease of this.#leases.values()) this.#adopt(lease);
    for (const pending of this.#pending.values()) if (!pending.paused) this.#ask(pending);
  }

  #broke(error: LocksidecarError): void {
    this.#adopting.clear();
    for (const lease of [...this.#leases.values()]) {
      // A sidecar that is stopping has released what was on the stream.
      if (error instanceof DrainingError && lease.attached) lease.lose("released", false);
      else lease.detach();
    }
    for (const answer of [...this.#answers.values()]) answer(new SidecarUnavailableError(error.message, { cause: error }));
    if (error instanceof PermissionDeniedError || error instanceof UnsupportedError || error instanceof InvalidError) {
      for (const pending of [...this.#pending.values()]) this.#reject(pending, error);
    }
  }

  #missing(downMs: number, error: LocksidecarError): void {
    const now = this.clock.monotonic();
    if (downMs >= this.#patienceMs) this.#abandoned.clear(); // the store has forgotten them
    for (const pending of [...this.#pending.values()]) {
      const asking = Number(now - pending.begun) / 1e6;
      if (Math.min(downMs, asking) >= this.#patienceMs) this.#reject(pending, error);
    }
  }
}
