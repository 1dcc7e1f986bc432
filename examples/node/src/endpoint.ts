/** Where the sidecar's socket is, if nobody says it. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const SERVE = "/run/locksidecar/api.sock";

/**
 * The first socket that is there of `dev`'s and `serve`'s, looked for until
 * `until` (milliseconds of performance.now) has passed; then undefined.
 */
export async function findEndpoint(until: number): Promise<string | undefined> {
  const runtime = process.env["XDG_RUNTIME_DIR"];
  const paths = runtime ? [join(runtime, "locksidecar", "api.sock"), SERVE] : [SERVE];
  for (;;) {
    const found = paths.find((path) => existsSync(path));
    if (found) return `unix://${found}`;
    if (performance.now() >= until) return undefined;
    await sleep(50);
  }
}
