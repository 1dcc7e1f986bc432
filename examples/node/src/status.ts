/** Reads errors off the wire. */
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { status as Code, type ServiceError } from "@grpc/grpc-js";
import { errorTypes, InvalidError, LeaseLostError, LocksidecarError, SidecarUnavailableError, type ErrorFacts } from "./errors.js";
import { Error as StatusMessage } from "./gen/locksidecar/v1/lock.js";

/** The domain of the sidecar's ErrorInfo. */
const DOMAIN = "locksidecar.dev";

/** The error of the class that the reason has. */
export function errorOf(facts: ErrorFacts): LocksidecarError {
  const type = errorTypes[facts.reason] ?? (facts.reason.startsWith("INVALID_") ? InvalidError : LocksidecarError);
  return new type(facts);
}

/** The lease was lost for the reason. */
export function leaseLost(lock: string, lostReason: string): LeaseLostError {
  const message = `the lease on ${JSON.stringify(lock)} was lost (${lostReason})`;
  return new LeaseLostError({ reason: "LEASE_LOST", message, code: Code.ABORTED, metadata: { cause: lostReason } });
}

/** The error of an event of a Hold stream. */
export function fromMessage(m: StatusMessage): LocksidecarError {
  const info = m.details[0];
  const facts = info ? errorInfo(info.value) : undefined;
  return errorOf({ reason: facts?.reason ?? "INTERNAL", message: m.message, code: m.code, metadata: facts?.metadata ?? {} });
}

/** The error of a call; one that is not of the sidecar's making says that nobody answers. */
export function fromCall(err: ServiceError): LocksidecarError {
  const packed = err.metadata?.get("grpc-status-details-bin")[0];
  if (packed instanceof Buffer) {
    const m = StatusMessage.decode(packed);
    if (m.details[0]) return fromMessage(m);
  }
  return new SidecarUnavailableError(err.details || err.message, { cause: err });
}

/** Reads a google.rpc.ErrorInfo of the sidecar's domain. */
function errorInfo(bytes: Uint8Array): { reason: string; metadata: Record<string, string> } | undefined {
  const info = { reason: "", domain: "", metadata: {} as Record<string, string> };
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1) info.reason = reader.string();
    else if (field === 2) info.domain = reader.string();
    else if (field === 3) {
      const entry = new BinaryReader(reader.bytes());
      let key = "";
      let value = "";
      while (entry.pos < entry.len) {
        const [part, type] = entry.tag();
        if (part === 1) key = entry.string();
        else if (part === 2) value = entry.string();
        else entry.skip(type);
      }
      info.metadata[key] = value;
    } else reader.skip(wireType);
  }
  return info.domain === DOMAIN && info.reason ? info : undefined;
}
