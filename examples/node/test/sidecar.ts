// A real sidecar for the tests, on a socket of its own.
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { credentials } from "@grpc/grpc-js";
import { AdminServiceClient } from "#client/gen/locksidecar/v1/lock.js";

/** How long a test waits for what must come. */
export const PATIENCE_MS = 60_000;

const repository = fileURLToPath(new URL("../../../..", import.meta.url));

let built: string | undefined;

/** The daemon: LOCKSIDECAR_BIN, else it is built. */
function binary(): string {
  const given = process.env["LOCKSIDECAR_BIN"];
  if (given) return given;
  if (!built) {
    const dir = mkdtempSync(join(tmpdir(), "lsbin"));
    process.once("exit", () => rmSync(dir, { recursive: true, force: true }));
    execFileSync("go", ["build", "-o", join(dir, "locksidecar"), "./cmd/locksidecar"], { cwd: repository });
    built = join(dir, "locksidecar");
  }
  return built;
}

/** A private directory, removed when the test ends. Short: a socket's path is bounded. */
export function directory(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "lsn"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Waits until the condition holds. */
export async function eventually(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end; await sleep(5)) if (await condition()) return;
  throw new Error(`waited in vain: ${what}`);
}

/** Waits until the signal is aborted. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, "abort");
}

/** A sidecar with the embedded store, which ends with it. */
export class Sidecar {
  readonly path: string;
  #process: ChildProcess | undefined;
  #output = "";

  constructor(t: TestContext) {
    this.path = join(directory(t), "run", "api.sock");
    t.after(() => this.kill());
  }

  static async start(t: TestContext): Promise<Sidecar> {
    const sidecar = new Sidecar(t);
    await sidecar.start();
    return sidecar;
  }

  get endpoint(): string {
    return `unix://${this.path}`;
  }

  async start(): Promise<void> {
    const child = spawn(binary(), ["serve", "--backend", "embedded:", "--socket", this.path], { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (this.#output += chunk.toString()));
    await eventually(`the sidecar listens; it printed:\n${this.#output}`, () => {
      if (child.exitCode !== null) throw new Error(`the sidecar ended with ${child.exitCode}:\n${this.#output}`);
      return answers(this.path);
    });
  }

  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  terminate(): Promise<void> {
    return this.#end("SIGTERM");
  }

  pause(): void {
    this.#process?.kill("SIGSTOP");
  }

  resume(): void {
    this.#process?.kill("SIGCONT");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    child.kill("SIGCONT");
    await once(child, "exit");
  }
}

/** Revokes the lease of a lock. */
export function revoke(sidecar: Sidecar, lock: string, token: bigint): Promise<void> {
  const admin = new AdminServiceClient(sidecar.endpoint, credentials.createInsecure());
  return new Promise((resolve, reject) =>
    admin.forceRelease({ lock_id: lock, fencing_token: token, reason: "test", immediate: false }, (err) => {
      admin.close();
      if (err) reject(err);
      else resolve();
    }),
  );
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

/** A way to a sidecar that can be cut. */
export class Proxy {
  readonly endpoint: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** How many connections were made so far. */
  connections = 0;

  constructor(t: TestContext, sidecar: Sidecar) {
    const path = join(directory(t), "p.sock");
    this.endpoint = `unix://${path}`;
    this.#server = createServer((near) => {
      this.connections++;
      const far = connect(sidecar.path);
      for (const [from, to] of [[near, far], [far, near]] as const) {
        this.#sockets.add(from);
        from.on("error", () => undefined).on("close", () => {
          this.#sockets.delete(from);
          to.destroy();
        });
        from.pipe(to);
      }
    });
    this.#server.listen(path);
    t.after(() => {
      this.cut();
      this.#server.close();
    });
  }

  /** Breaks every connection. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Breaks every connection and waits until the client has made another. */
  async interrupt(): Promise<void> {
    const before = this.connections;
    this.cut();
    await eventually("the client connects again", () => this.connections > before);
  }
}

/** A compiled program of the package at work. */
export class Program {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  output = "";

  constructor(t: TestContext, file: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const path = fileURLToPath(new URL(`../${file}`, import.meta.url));
    this.child = spawn(process.execPath, [path, ...args], { env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "pipe"] });
    for (const stream of [this.child.stdout, this.child.stderr]) stream?.on("data", (chunk: Buffer) => (this.output += chunk.toString()));
    this.ended = once(this.child, "close").then(([code]) => code as number | null);
    t.after(async () => {
      if (this.child.exitCode === null) this.child.kill("SIGKILL");
      await this.ended;
    });
  }

  /** Waits until it has printed what the pattern finds. */
  async prints(pattern: RegExp): Promise<RegExpExecArray> {
    await eventually(`${String(pattern)} in:\n${this.output}`, () => pattern.test(this.output) || this.child.exitCode !== null);
    const found = pattern.exec(this.output);
    if (!found) throw new Error(`it ended with ${this.child.exitCode} without ${String(pattern)}:\n${this.output}`);
    return found;
  }
}
