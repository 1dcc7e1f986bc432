// A small sidecar of the tests' own, which answers as it is told and remembers
// what it was sent.
import { Metadata, Server, ServerCredentials, status as Code, type ServerDuplexStream } from "@grpc/grpc-js";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { LockServiceService, type AcquireRequest, type Error as StatusMessage, type HoldRequest, type HoldResponse } from "#client/gen/locksidecar/v1/lock.js";
import { directory } from "./sidecar.js";

type Stream = ServerDuplexStream<HoldRequest, HoldResponse>;

/** The details of an error of the sidecar's. */
export function errorMessage(code: number, reason: string, metadata: Record<string, string> = {}): StatusMessage {
  const info = new BinaryWriter().uint32(10).string(reason).uint32(18).string("locksidecar.dev");
  for (const [key, value] of Object.entries(metadata)) {
    info.uint32(26).fork().uint32(10).string(key).uint32(18).string(value).join();
  }
  const any = { type_url: "type.googleapis.com/google.rpc.ErrorInfo", value: Buffer.from(info.finish()) };
  return { code, message: `made up: ${reason}`, details: [any] };
}

export class Fake {
  readonly endpoint: string;
  /** The metadata of each stream. */
  readonly streams: Metadata[] = [];
  readonly authorities: string[] = [];
  /** Every acquire that was sent. */
  readonly acquires: AcquireRequest[] = [];
  readonly releases: string[] = [];
  #now = 1_000_000_000_000n;

  /** answer is called with each acquire: what it returns is the error; "end" ends the stream, "late" grants what is over, undefined grants. */
  constructor(t: TestContext, answer: (request: AcquireRequest, n: number) => StatusMessage | "end" | "late" | undefined) {
    const path = join(directory(t), "f.sock");
    this.endpoint = `unix://${path}`;
    const server = new Server();
    const hold = (stream: Stream): void => {
      this.streams.push(stream.metadata);
      this.authorities.push(stream.getHost());
      stream.on("data", ({ request }: HoldRequest) => {
        if (request?.$case === "release") {
          this.releases.push(request.value.request_id);
          stream.write({
            request_id: request.value.request_id,
            lock_id: request.value.lock_id,
            event: { $case: "released", value: { lock_id: request.value.lock_id, hold_count: 0 } },
          });
        }
        if (request?.$case !== "acquire") return;
        const value = request.value;
        this.acquires.push(value);
        const error = answer(value, this.acquires.length);
        if (error === "end") {
          stream.emit("error", { code: Code.UNAVAILABLE, details: "made up" });
          return;
        }
        stream.write({
          request_id: value.request_id,
          lock_id: value.lock_id,
          event: error && error !== "late"
            ? { $case: "error", value: error }
            : { $case: "granted", value: this.#lease(value, error === "late" ? 0n : 10n) },
        });
      });
      stream.on("end", () => stream.end());
    };
    const unimplemented = (_: unknown, done: (err: { code: number }) => void): void => done({ code: Code.UNIMPLEMENTED });
    server.addService(LockServiceService, { acquire: unimplemented, renew: unimplemented, release: unimplemented, get: unimplemented, hold });
    t.after(() => server.forceShutdown());
    this.ready = new Promise((resolve, reject) =>
      server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (err) => (err ? reject(err) : resolve())),
    );
  }

  readonly ready: Promise<void>;

  #lease(r: AcquireRequest, seconds: bigint) {
    return {
      lock_id: r.lock_id, lease_id: "secret", owner_id: r.owner_id, fencing_token: 7n, shared: r.shared, hold_count: 1,
      request_id: r.request_id, ttl: r.ttl ?? { seconds: 15n, nanos: 0 }, valid_for: { seconds, nanos: 0 },
      valid_until_boottime_ns: this.#now + seconds * 1_000_000_000n, expires_at: undefined, metadata: r.metadata,
    };
  }
}
