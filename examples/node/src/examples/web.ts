// A web handler: each account's requests go one after the other, over any number
// of servers. A request waits two seconds at most, and not at all once its client
// has gone.
//
//   PORT=8080 node dist/examples/web.js
//   curl -X POST http://127.0.0.1:8080/accounts/42/deposit
import express, { type NextFunction, type Request, type Response } from "express";
import type { AddressInfo } from "node:net";
import { Client, InvalidError, LeaseLostError, LockHeldError, LocksidecarError } from "@locksidecar/client";

/** What stands for a database that does not lock: reads and writes take a while. */
const balances = new Map<string, number>();
const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1));

const client = new Client();
const app = express();

app.post("/accounts/:id/deposit", async (request: Request<{ id: string }>, response: Response) => {
  const { id } = request.params;
  const gone = new AbortController();
  response.once("close", () => gone.abort(new Error("the client has gone")));
  const balance = await client.using(
    `examples/account/${encodeURIComponent(id)}`,
    { ttlMs: 5000, waitMs: 2000, signal: gone.signal, traceparent: request.get("traceparent") },
    async (lease) => {
      const before = balances.get(id) ?? 0;
      await pause();
      lease.check();
      balances.set(id, before + 1);
      return before + 1;
    },
  );
  response.json({ balance });
});

app.use((err: unknown, _request: Request, response: Response, next: NextFunction) => {
  if (response.destroyed) return; // nobody is left to be told
  if (response.headersSent) next(err);
  else if (err instanceof InvalidError) response.status(400).json({ error: err.reason });
  else if (err instanceof LockHeldError) response.status(409).set("Retry-After", "1").json({ error: err.reason });
  else if (err instanceof LeaseLostError) response.status(500).json({ error: err.reason });
  else if (err instanceof LocksidecarError && err.retryable) response.status(503).json({ error: err.reason });
  else next(err);
});

const server = app.listen(Number(process.env["PORT"] ?? 0), "127.0.0.1", () => {
  console.log(`listening at http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
process.once("SIGTERM", () => {
  // The requests under way end first, then what they hold.
  server.close(() => void client.close());
});
