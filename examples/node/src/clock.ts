/**
 * How long a lease may be relied on, by clocks of this process.
 *
 * The sidecar names the end of a lease as an instant of CLOCK_BOOTTIME, which
 * runs through suspend and which Node cannot read. Two readings stand in for
 * it, and the lesser of what they leave counts:
 *
 * - `/proc/uptime` is the same clock, cut to 10 ms. It is used as long as what
 *   the sidecar says agrees with it: another time namespace or a container that
 *   fakes its uptime does not.
 * - `process.hrtime` stands still during suspend, but is always there. The
 *   sidecar's clock is read off its messages: one that was read late shows less
 *   of it, so the most that any message has shown counts. A message that lay
 *   unread while the event loop was blocked therefore prolongs nothing.
 */
import { readFileSync } from "node:fs";

/** The steps of /proc/uptime in nanoseconds. */
const GRAIN = 10_000_000n;

/** Where a clock's readings come from; tests put in their own. */
export interface Sources {
  /** Nanoseconds of a clock that never jumps. */
  monotonic(): bigint;
  /** Nanoseconds since boot, cut to 10 ms; undefined where there are none. */
  uptime(): bigint | undefined;
}

const system: Sources = {
  monotonic: () => process.hrtime.bigint(),
  uptime() {
    try {
      const [, seconds, hundredths] = /^(\d+)\.(\d\d)\b/.exec(readFileSync("/proc/uptime", "latin1")) ?? [];
      return seconds && hundredths ? BigInt(seconds + hundredths) * GRAIN : undefined;
    } catch {
      return undefined;
    }
  },
};

/** The end of a lease on both clocks, in nanoseconds. */
export interface Deadline {
  readonly boot: bigint;
  readonly monotonic: bigint;
}

/** The clock of one client. */
export class Clock {
  readonly #sources: Sources;
  #bootTrusted: boolean;
  /** The least that the sidecar's clock is ahead of the monotonic one. */
  #ahead: bigint | undefined;

  constructor(sources: Sources = system) {
    this.#sources = sources;
    this.#bootTrusted = sources.uptime() !== undefined;
  }

  /** Whether /proc/uptime agrees with the sidecar so far. */
  get bootTrusted(): boolean {
    return this.#bootTrusted;
  }

  /** Nanoseconds of the monotonic clock. */
  monotonic(): bigint {
    return this.#sources.monotonic();
  }

  /**
   * Nanoseconds of boot time, at most 10 ms more than there are and never less;
   * undefined if they are not to be trusted.
   */
  boot(): bigint | undefined {
    if (!this.#bootTrusted) return undefined;
    const uptime = this.#sources.uptime();
    return uptime === undefined ? undefined : uptime + GRAIN;
  }

  /**
   * Reads the end of a lease out of a message that says it as an instant of the
   * sidecar's clock and as nanoseconds from its sending. askedAt is {@link boot}
   * before the request that the message answers, where it answers one.
   */
  deadline(validUntil: bigint, validFor: bigint, askedAt?: bigint): Deadline {
    const received = this.#sources.monotonic();
    const sent = validUntil - validFor;
    if (validFor > 0n) {
      if (this.#ahead === undefined || sent - received > this.#ahead) this.#ahead = sent - received;
      const now = this.boot();
      // What was sent before it was asked for, or will be sent, was timed by
      // another clock.
      if (now === undefined || sent > now || (askedAt !== undefined && sent < askedAt - GRAIN)) this.#bootTrusted = false;
    }
    return { boot: validUntil, monotonic: validUntil - (this.#ahead ?? sent - received) };
  }

  /** Milliseconds until the deadline; 0 once it has passed. */
  remaining(d: Deadline): number {
    let left = d.monotonic - this.#sources.monotonic();
    const boot = this.boot();
    if (boot !== undefined && d.boot - boot < left) left = d.boot - boot;
    return left > 0n ? Number(left) / 1e6 : 0;
  }
}
