/** The client. */
import { acquireRequest, type AcquireOptions } from "./acquire.js";
import { ClientClosedError, LeaseLostError, LocksidecarError } from "./errors.js";
import type { Lock } from "./gen/locksidecar/v1/lock.js";
import { Holder } from "./holder.js";
import { observe, type Hooks } from "./hooks.js";
import type { Lease } from "./lease.js";
import { Pending } from "./pending.js";

/** How a client works. */
export interface ClientOptions {
  /**
   * `unix:///path`. Left out: LOCKSIDECAR_ENDPOINT, else the socket of
   * `locksidecar dev`, else that of `locksidecar serve`.
   */
  readonly endpoint?: string | undefined;
  /**
   * How long a call goes on trying while the sidecar or its store is not there,
   * in milliseconds. Left out: 10,000.
   */
  readonly patienceMs?: number | undefined;
  /** Told what happens, for metrics. */
  readonly hooks?: Hooks | undefined;
  /** The W3C traceparent that is sent with each call and each stream that is opened. */
  readonly traceparent?: string | (() => string | undefined) | undefined;
}

/**
 * A client of one sidecar. All its leases are on one stream, so one client is
 * enough for a process; each worker thread needs its own.
 *
 * A lease or a wait keeps the process alive. A client that has neither does not:
 * it need not be closed for the process to end.
 */
export class Client {
  readonly #patienceMs: number;
  readonly #hooks: Hooks;
  readonly #holder: Holder;
  #closing: Promise<void> | undefined;

  constructor(options: ClientOptions = {}) {
    const { endpoint, traceparent } = options;
    this.#patienceMs = options.patienceMs ?? 10_000;
    this.#hooks = options.hooks ?? {};
    this.#holder = new Holder({
      endpoint,
      patienceMs: this.#patienceMs,
      hooks: this.#hooks,
      traceparent: typeof traceparent === "function" ? traceparent : () => traceparent,
    });
  }

  /**
   * Acquires a lock, waiting as the options say.
   *
   * @throws LockHeldError if it was not granted within `waitMs`.
   * @throws SidecarUnavailableError if no sidecar answered in time.
   * @throws the reason of `signal` if that was aborted; the wait is given up then.
   */
  async acquire(name: string, options: AcquireOptions = {}): Promise<Lease> {
    const pending = new Pending(acquireRequest(name, options), options, this.#holder.clock.monotonic());
    let error: unknown;
    try {
      options.signal?.throwIfAborted();
      if (this.#closing) throw new ClientClosedError();
      return await this.#holder.wait(pending, options.signal);
    } catch (err) {
      error = err;
      throw err;
    } finally {
      observe(this.#hooks, "acquire", {
        lock: name,
        shared: options.shared ?? false,
        waitedMs: Number(this.#holder.clock.monotonic() - pending.begun) / 1e6,
        error,
      });
    }
  }

  /**
   * Runs the body under the lock and releases it. The body does not run without
   * the lock. It is given the lease, whose `signal` tells it to stop.
   *
   * @throws what {@link Client.acquire} throws, without running the body.
   * @throws LeaseLostError if the lease was lost before the body ended, whatever
   * the body returned; what it threw is the error's `cause`.
   */
  async using<T>(name: string, options: AcquireOptions, body: (lease: Lease) => T | Promise<T>): Promise<T> {
    const lease = await this.acquire(name, options);
    let result: T;
    try {
      lease.check();
      result = await body(lease);
    } catch (err) {
      const lost: unknown = await lease.release().catch((why: unknown) => why);
      if (!(lost instanceof LeaseLostError) || err === lost) throw err;
      throw new LeaseLostError({ ...lost, message: lost.message.replace(/^LEASE_LOST: /, "") }, { cause: err });
    }
    try {
      await lease.release();
    } catch (err) {
      // The body ended within the lease, which ends by its TTL.
      if (!(err instanceof LocksidecarError && err.retryable)) throw err;
    }
    return result;
  }

  /** Shows a lock: who holds it and who waits. A lock that nobody holds is no error. */
  get(name: string): Promise<Lock> {
    if (this.#closing) return Promise.reject(new ClientClosedError());
    return this.#holder.stream.unary<Lock>(
      (client, metadata, options, done) => client.get({ lock_id: name }, metadata, options, done),
      performance.now() + this.#patienceMs,
    );
  }

  /**
   * Releases what the client holds and ends it. Its waits end with
   * {@link ClientClosedError}, its leases are lost.
   */
  close(): Promise<void> {
    this.#closing ??= this.#holder.close();
    return this.#closing;
  }

  /** The same as {@link Client.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
