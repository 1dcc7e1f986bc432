"""A guarded write: the resource keeps the highest token that wrote, and refuses a lower one.

The resource is an SQLite database; the same condition works in every store that can compare and write in one step.
A writer pauses beyond its lease, as a garbage collection or a suspended host would have it, and writes late.

    python guarded_write.py --database /tmp/guarded.db
"""

from __future__ import annotations

import argparse
import sqlite3

from locksidecar import Client

SCHEMA = "CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, balance INTEGER NOT NULL, token INTEGER NOT NULL)"
WRITE = """
INSERT INTO accounts (name, balance, token) VALUES (:name, :balance, :token)
ON CONFLICT (name) DO UPDATE SET balance = :balance, token = :token WHERE accounts.token <= :token
"""


class StaleWrite(Exception):
    """The resource has seen a higher token."""


def write(db: sqlite3.Connection, name: str, balance: int, token: int) -> None:
    with db:
        if db.execute(WRITE, {"name": name, "balance": balance, "token": token}).rowcount == 0:
            raise StaleWrite(f"{name}: the token {token} is stale")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint")
    parser.add_argument("--database", required=True)
    args = parser.parse_args()
    db = sqlite3.connect(args.database)
    db.execute(SCHEMA)
    with Client(args.endpoint) as first, Client(args.endpoint) as second:
        paused = first.acquire("accounts/alice", ttl=30)
        write(db, "alice", 100, paused.fencing_token)
        # While it pauses an operator takes its lease away, and another one goes on.
        second.force_release("accounts/alice", paused.fencing_token, "it hangs", immediate=True)
        with second.lock("accounts/alice", ttl=30) as lease:
            write(db, "alice", 70, lease.fencing_token)
        try:
            write(db, "alice", 130, paused.fencing_token)
            print("the late write was accepted")
        except StaleWrite as refused:
            print(f"refused: {refused}")
    print("balance", db.execute("SELECT balance FROM accounts WHERE name = 'alice'").fetchone()[0])


if __name__ == "__main__":
    main()
