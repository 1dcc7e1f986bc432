/**
 * A client of locksidecar: leases on named locks, through the sidecar's socket.
 *
 * ```ts
 * const client = new Client();
 * await client.using("user:42", { ttlMs: 10_000 }, async (lease) => {
 *   await save(user, lease.token);
 * });
 * ```
 *
 * A lock is advisory: what makes it safe is the lease's `token`, which the
 * protected resource compares with the highest that it has seen.
 */
export type { AcquireOptions } from "./acquire.js";
export { Client, type ClientOptions } from "./client.js";
export * from "./errors.js";
export type { Holder, Lock, Waiter } from "./gen/locksidecar/v1/lock.js";
export type { AcquireObservation, Hooks, LostObservation, WaitObservation } from "./hooks.js";
export type { Lease } from "./lease.js";
