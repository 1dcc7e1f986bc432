// A guarded write: the resource keeps the highest token that wrote and refuses a
// lower one, so that a holder which does not know that it lost its lease does no
// harm.
//
//   node dist/examples/guarded-write.js
import { Client, LeaseLostError } from "@locksidecar/client";

/** A resource that checks tokens. In a database: `UPDATE … WHERE token <= $token`. */
class Account {
  balance = 0;
  #token = 0n;

  /** The highest token that wrote. */
  get token(): bigint {
    return this.#token;
  }

  write(balance: number, token: bigint): void {
    if (token < this.#token) throw new RangeError(`token ${token} is stale, the last write had ${this.#token}`);
    this.#token = token;
    this.balance = balance;
  }
}

const account = new Account();
await using client = new Client();

// The first holder is cut off after a second, but does not look.
const first = await client.acquire("examples/account", { ttlMs: 5000, maxHoldMs: 1000 });
const seen = account.balance;

await using second = await client.acquire("examples/account", { ttlMs: 5000 });
account.write(100, second.token);
console.log(`the second holder wrote ${account.balance}`);

try {
  account.write(seen + 1, first.token);
  console.log("a stale write was accepted");
  process.exitCode = 1;
} catch (err) {
  console.log(`refused: ${(err as Error).message.replace(/\d{5,}/g, "…")}`);
}

// Whoever asks its lease first is told the same.
try {
  first.check();
} catch (err) {
  console.log(`the first lease: ${(err as LeaseLostError).lostReason}`);
}
await first.release().catch(() => undefined);
await second.release();

// Who was refused goes on with a token above what the resource has seen.
await client.using("examples/account", { tokenFloor: account.token + 1n }, (lease) => {
  account.write(account.balance + 1, lease.token);
});
console.log(`the balance is ${account.balance}`);
