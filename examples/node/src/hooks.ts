/** What a client tells whoever measures it. */

/** An acquire that was answered. */
export interface AcquireObservation {
  readonly lock: string;
  readonly shared: boolean;
  /** From the call to its answer. */
  readonly waitedMs: number;
  /** Why it failed; undefined if it was granted. An abort's own reason if it was aborted. */
  readonly error: unknown;
}

/** An acquire that waits in the queue, or has moved in it. */
export interface WaitObservation {
  readonly lock: string;
  /** From 1. */
  readonly position: number;
  readonly queueLength: number;
}

/** A lease that was lost. */
export interface LostObservation {
  readonly lock: string;
  readonly token: bigint;
  readonly reason: string;
}

/**
 * Hooks for metrics. They are called at once and must be quick; what they throw
 * becomes a warning of the process and changes nothing.
 */
export interface Hooks {
  acquire?(o: AcquireObservation): void;
  wait?(o: WaitObservation): void;
  lost?(o: LostObservation): void;
}

/** Calls a hook. */
export function observe<K extends keyof Hooks>(hooks: Hooks, name: K, o: Parameters<NonNullable<Hooks[K]>>[0]): void {
  try {
    (hooks[name] as ((o: unknown) => void) | undefined)?.call(hooks, o);
  } catch (err) {
    process.emitWarning(`the hook ${JSON.stringify(name)} threw: ${String(err)}`, "LocksidecarWarning");
  }
}
