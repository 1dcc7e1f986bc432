/**
 * What can go wrong: one class for each reason of the sidecar's table of errors
 * (docs/api.md), and two of the client's own. Decide by the class or by
 * `reason`, never by the message.
 */
import { status as Code } from "@grpc/grpc-js";

/** What a sidecar says about an error. */
export interface ErrorFacts {
  /** Of the table of errors. */
  readonly reason: string;
  readonly message: string;
  /** The gRPC code. */
  readonly code: number;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Every error that this package throws, apart from aborts and wrong arguments. */
export class LocksidecarError extends Error {
  /** What happened, for programs: a name of the table of errors. */
  readonly reason: string;
  /** The gRPC code; -1 for what the client itself found. */
  readonly code: number;
  /** What the sidecar adds; which keys there can be depends on the reason. */
  readonly metadata: Readonly<Record<string, string>>;

  constructor(facts: ErrorFacts, options?: ErrorOptions) {
    super(`${facts.reason}: ${facts.message}`, options);
    this.name = new.target.name;
    this.reason = facts.reason;
    this.code = facts.code;
    this.metadata = facts.metadata;
  }

  /** Whether repeating the same request later may help. */
  get retryable(): boolean {
    return this.code === Code.UNAVAILABLE;
  }
}

/** The lock is held, or others wait for it; also when a bounded wait ran out. */
export class LockHeldError extends LocksidecarError {
  /** The owner of a lease that stands in the way, if one does. */
  get holder(): string | undefined {
    return this.metadata["holder"];
  }
  /** How many wait. */
  get queueLength(): number {
    return Number(this.metadata["queue_length"] ?? 0);
  }
  /** The owner that asks holds the lock already. */
  get heldBySelf(): boolean {
    return this.metadata["held_by_self"] === "true";
  }
}

/** The lease does not stand any more: what it protected must be left alone. */
export class LeaseLostError extends LocksidecarError {
  /**
   * Why: expired, forced, reattached, deadlock, max_hold, released, unknown;
   * unreachable, if nobody confirmed it in time; closed, by the client's own
   * close.
   */
  get lostReason(): string {
    return this.metadata["cause"] ?? "unknown";
  }
}

/** The lease stands under another lease id. */
export class NotOwnerError extends LocksidecarError {}

/** The token is not this lease's. */
export class StaleTokenError extends LocksidecarError {}

/** No place in the queue has this ticket any more. */
export class NoSuchWaiterError extends LocksidecarError {}

/** Waiting would have been a deadlock, and this request was chosen to break it. */
export class DeadlockError extends LocksidecarError {}

/** The store failed repeatedly and is given a pause; nothing was done. */
export class BreakerOpenError extends LocksidecarError {}

/** The store may have lost leases and grants nothing for a while. */
export class QuarantinedError extends LocksidecarError {}

/** The store cannot be reached; nothing was done. */
export class BackendUnavailableError extends LocksidecarError {}

/** The lock's record was written by a newer version of locksidecar. */
export class NewerFormatError extends LocksidecarError {}

/** The sidecar is stopping. */
export class DrainingError extends LocksidecarError {}

/** It may have been done or not. */
export class OutcomeUnknownError extends LocksidecarError {
  override get retryable(): boolean {
    return true;
  }
}

/** A field of the request is not valid: `reason` says which, `limits` what is. */
export class InvalidError extends LocksidecarError {
  /** What is allowed. */
  get limits(): string | undefined {
    return this.metadata["limits"];
  }
}

/** The request id does not name one hold. */
export class InvalidRequestIdError extends InvalidError {}

/** The request cannot be read. */
export class InvalidRequestError extends InvalidError {}

/** The sidecar's configuration leads this lock to no store. */
export class NoRouteError extends InvalidError {}

/** The store cannot do this. */
export class UnsupportedError extends LocksidecarError {}

/** This process may not do this. */
export class PermissionDeniedError extends LocksidecarError {}

/** A limit was reached. */
export class LimitExceededError extends LocksidecarError {
  /** Which. */
  get limit(): string | undefined {
    return this.metadata["limit"];
  }
}

/** Over HTTP only: the path is none of the API's. */
export class NoSuchPathError extends LocksidecarError {}

/** Over HTTP only: the path is served under another method. */
export class WrongMethodError extends LocksidecarError {}

/** The sidecar gave the request up because its caller left. */
export class CancelledError extends LocksidecarError {}

/** The deadline of the call passed. */
export class DeadlineExceededError extends LocksidecarError {}

/** An error of the sidecar itself; its log says more. */
export class InternalError extends LocksidecarError {}

/** The client's own: no sidecar answers at the socket. */
export class SidecarUnavailableError extends LocksidecarError {
  constructor(message: string, options?: ErrorOptions) {
    super({ reason: "SIDECAR_UNAVAILABLE", message, code: -1, metadata: {} }, options);
  }
  override get retryable(): boolean {
    return true;
  }
}

/** The client's own: it was closed. */
export class ClientClosedError extends LocksidecarError {
  constructor() {
    super({ reason: "CLIENT_CLOSED", message: "the client was closed", code: -1, metadata: {} });
  }
}

/** The class of each reason. INVALID_… stands for one reason for each field. */
export const errorTypes: Readonly<Record<string, new (facts: ErrorFacts, options?: ErrorOptions) => LocksidecarError>> = {
  LOCK_HELD: LockHeldError,
  LEASE_LOST: LeaseLostError,
  NOT_OWNER: NotOwnerError,
  STALE_TOKEN: StaleTokenError,
  NO_SUCH_WAITER: NoSuchWaiterError,
  DEADLOCK: DeadlockError,
  BREAKER_OPEN: BreakerOpenError,
  QUARANTINED: QuarantinedError,
  BACKEND_UNAVAILABLE: BackendUnavailableError,
  NEWER_FORMAT: NewerFormatError,
  DRAINING: DrainingError,
  OUTCOME_UNKNOWN: OutcomeUnknownError,
  INVALID_REQUEST_ID: InvalidRequestIdError,
  INVALID_REQUEST: InvalidRequestError,
  "INVALID_…": InvalidError,
  NO_ROUTE: NoRouteError,
  UNSUPPORTED: UnsupportedError,
  PERMISSION_DENIED: PermissionDeniedError,
  LIMIT_EXCEEDED: LimitExceededError,
  NO_SUCH_PATH: NoSuchPathError,
  WRONG_METHOD: WrongMethodError,
  CANCELLED: CancelledError,
  DEADLINE_EXCEEDED: DeadlineExceededError,
  INTERNAL: InternalError,
};
