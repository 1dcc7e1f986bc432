/**
 * The connection to the sidecar and the one Hold stream on it: it is opened when
 * it is needed, and again whenever it breaks.
 */
import { credentials, Metadata, type CallOptions, type ClientDuplexStream, type ServiceError } from "@grpc/grpc-js";
import { setTimeout as sleep } from "node:timers/promises";
import { fullJitter } from "./backoff.js";
import { findEndpoint } from "./endpoint.js";
import { ClientClosedError, LocksidecarError, SidecarUnavailableError } from "./errors.js";
import { LockServiceClient, type HoldRequest, type HoldResponse } from "./gen/locksidecar/v1/lock.js";
import { fromCall } from "./status.js";

/** How long one look for a connection takes at most. */
const LOOK_MS = 250;

/** A stream that stood as long as this is no failure when it breaks. */
const STEADY_MS = 1000;

const channelOptions = {
  // Some servers refuse a socket's path as :authority.
  "grpc.default_authority": "localhost",
  // A sidecar that does not even answer pings is found within 15 s.
  "grpc.keepalive_time_ms": 5000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 1000,
  // The client repeats what it may repeat; nobody else does.
  "grpc.enable_retries": 0,
  // A connection of its own: another client's end must not end this one's.
  "grpc.use_local_subchannel_pool": 1,
};

/** The kinds of requests on a Hold stream. */
export type Request = NonNullable<HoldRequest["request"]>;

/** Who uses a stream. */
export interface Follower {
  /** Whether there is anything that a stream must be open for. */
  needed(): boolean;
  /** A new stream stands: say again what must be said on it. */
  opened(): void;
  event(response: HoldResponse): void;
  /** The stream has ended, and what was held on it is on no stream now. */
  broke(error: LocksidecarError): void;
  /** Called several times a second while there has been no stream for so long. */
  missing(downMs: number, error: LocksidecarError): void;
}

/** One unary call of the generated client. */
export type Unary<T> = (
  client: LockServiceClient,
  metadata: Metadata,
  options: Partial<CallOptions>,
  done: (err: ServiceError | null, answer: T) => void,
) => unknown;

function connect(endpoint: string): LockServiceClient {
  if (!endpoint.startsWith("unix:")) throw new TypeError(`the endpoint is ${JSON.stringify(endpoint)}, want unix:///path`);
  return new LockServiceClient(endpoint, credentials.createInsecure(), channelOptions);
}

/** The stream. */
export class HoldStream {
  readonly #traceparent: () => string | undefined;
  readonly #follower: Follower;
  #client: LockServiceClient | undefined;
  #call: ClientDuplexStream<HoldRequest, HoldResponse> | undefined;
  #running: Promise<void> | undefined;
  #closed = false;
  #failures = 0;
  #downSince = 0;
  #lastError: LocksidecarError | undefined;

  constructor(follower: Follower, endpoint: string | undefined, traceparent: () => string | undefined) {
    this.#follower = follower;
    this.#traceparent = traceparent;
    const named = endpoint ?? process.env["LOCKSIDECAR_ENDPOINT"];
    if (named) this.#client = connect(named); // an endpoint that is none is an error now
  }

  /** Whether a stream is open. */
  get stands(): boolean {
    return this.#call !== undefined;
  }

  /** Sees to it that a stream is open for as long as the follower needs one. */
  want(): void {
    if (this.#closed || this.#running) return;
    this.#downSince = performance.now();
    this.#failures = 0;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
      if (this.#follower.needed()) this.want();
    });
  }

  /** Sends a request on the open stream. */
  send(request: Request): void {
    if (!this.#closed) this.#call?.write({ request });
  }

  /** Ends the open stream, on which nothing is held or awaited. */
  rest(): void {
    const call = this.#call;
    this.#call = undefined;
    call?.cancel();
  }

  /**
   * Ends the stream once everything on it was answered, at the latest after so
   * many milliseconds, and the connection with it.
   */
  async close(withinMs: number): Promise<void> {
    this.#closed = true;
    const call = this.#call;
    call?.end();
    const late = setTimeout(() => call?.cancel(), withinMs);
    await this.#running;
    clearTimeout(late);
    this.#client?.close();
  }

  /**
   * Makes a call, and makes it again while the sidecar or its store is not
   * there, until the instant of performance.now.
   */
  async unary<T>(call: Unary<T>, until: number): Promise<T> {
    for (let failures = 0; ; failures++) {
      if (this.#closed) throw new ClientClosedError();
      try {
        const client = await this.#ready(until);
        if (this.#closed) throw new ClientClosedError();
        if (!client) throw this.#silence();
        const left = Math.max(1, until - performance.now());
        return await new Promise<T>((resolve, reject) =>
          call(client, this.#metadata(), { deadline: Date.now() + left }, (err, answer) =>
            err ? reject(fromCall(err)) : resolve(answer),
          ),
        );
      } catch (err) {
        const pause = fullJitter(failures);
        if (!(err instanceof LocksidecarError && err.retryable) || performance.now() + pause >= until) throw err;
        await sleep(pause);
      }
    }
  }

  async #run(): Promise<void> {
    while (!this.#closed && this.#follower.needed()) {
      const connected = await this.#ready(performance.now() + LOOK_MS);
      if (this.#closed || !this.#follower.needed()) return;
      if (connected) {
        this.#lastError = await this.#session();
        this.#follower.broke(this.#lastError);
      }
      this.#follower.missing(performance.now() - this.#downSince, this.#lastError ?? this.#silence());
      if (connected && !this.#closed && this.#follower.needed()) await sleep(fullJitter(this.#failures++));
    }
  }

  /** The client once it is connected; undefined if it is not by then. */
  async #ready(until: number): Promise<LockServiceClient | undefined> {
    if (!this.#client) {
      const endpoint = await findEndpoint(until);
      if (!endpoint) return undefined;
      this.#client ??= connect(endpoint);
    }
    const client = this.#client;
    const left = Math.max(1, until - performance.now());
    return new Promise((resolve) => client.waitForReady(Date.now() + left, (err) => resolve(err ? undefined : client)));
  }

  /** Opens a stream and returns what it ended with. */
  #session(): Promise<LocksidecarError> {
    const metadata = this.#metadata();
    metadata.set("locksidecar-renewals", "1");
    const call = (this.#client as LockServiceClient).hold(metadata);
    this.#call = call;
    return new Promise((resolve) => {
      const steady = setTimeout(() => this.#up(), STEADY_MS);
      let ended: LocksidecarError = new SidecarUnavailableError("the sidecar ended the stream");
      call.on("data", (response: HoldResponse) => {
        this.#up();
        this.#follower.event(response);
      });
      call.on("error", (err: ServiceError) => (ended = fromCall(err)));
      call.on("status", () => {
        clearTimeout(steady);
        this.#call = undefined;
        this.#downSince ||= performance.now();
        resolve(ended);
      });
      this.#follower.opened();
    });
  }

  #silence(): SidecarUnavailableError {
    return new SidecarUnavailableError("nothing answers at the sidecar's socket");
  }

  #up(): void {
    this.#downSince = 0;
    this.#failures = 0;
  }

  #metadata(): Metadata {
    const metadata = new Metadata();
    const traceparent = this.#traceparent();
    if (traceparent) metadata.set("traceparent", traceparent);
    return metadata;
  }
}
