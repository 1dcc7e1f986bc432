/** Durations of the API and of JavaScript. */
import type { Duration } from "./gen/google/protobuf/duration.js";

/** A duration of the API from nanoseconds. */
export function nanoseconds(ns: bigint): Duration {
  return { seconds: ns / 1_000_000_000n, nanos: Number(ns % 1_000_000_000n) };
}

/** A duration of the API from milliseconds, which may have fractions. */
export function duration(ms: number): Duration {
  return nanoseconds(BigInt(Math.round(ms * 1e6)));
}

/** Nanoseconds of a duration of the API; 0 if there is none. */
export function inNanoseconds(d: Duration | undefined): bigint {
  return d ? d.seconds * 1_000_000_000n + BigInt(d.nanos) : 0n;
}

/** Milliseconds of a duration of the API; 0 if there is none. */
export function milliseconds(d: Duration | undefined): number {
  return Number(inNanoseconds(d)) / 1e6;
}
