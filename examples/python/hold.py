"""Holds a lock, in one of four ways. Prints one JSON object a line.

counter  increments a file --count times, each time under the lock
hold     holds the lock until standard input ends
compute  computes for --seconds after the grant, then tells whether the lock is still held
write    writes each line of standard input to a resource that checks fencing tokens (--register URL)
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import urllib.error
import urllib.request

from locksidecar import Client, Lease, LeaseLost, LocksidecarError


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def say_granted(lease: Lease) -> None:
    say("granted", fencing_token=str(lease.fencing_token), valid_for=lease.remaining())


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def watch(lease: Lease) -> None:
    lease.lost.wait()
    say("lost", reason=lease.lost_reason)


def counter(client: Client, args: argparse.Namespace) -> None:
    lock = client.lock(args.lock, ttl=args.ttl)
    for _ in range(args.count):
        with lock:
            with open(args.file, encoding="ascii") as f:
                value = int(f.read())
            with open(args.file, "w", encoding="ascii") as f:
                f.write(str(value + 1))
    say("counted", count=args.count)


def compute(client: Client, args: argparse.Namespace) -> None:
    with client.lock(args.lock, ttl=args.ttl) as lease:
        say_granted(lease)
        end, n = time.monotonic() + args.seconds, 1
        while time.monotonic() < end:
            n = pow(n + 1, 65537, (1 << 4096) - 1)  # keeps the interpreter's lock
        if lease.lost_reason is not None:
            say("lost", reason=lease.lost_reason)
            return
        holders = client.get(args.lock).holders
        say("still_held" if [h.fencing_token for h in holders] == [lease.fencing_token] else "not_held")


def write(url: str, token: int, value: str) -> int:
    body = json.dumps({"token": str(token), "value": value}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST")) as response:
            return int(response.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def hold(client: Client, args: argparse.Namespace) -> None:
    with client.lock(args.lock, ttl=args.ttl) as lease:
        say_granted(lease)
        threading.Thread(target=watch, args=(lease,), daemon=True).start()
        for line in sys.stdin:
            if args.mode == "write":
                say("write", status=write(args.register, lease.fencing_token, line.strip()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True, help="unix:///path/of/the/socket")
    parser.add_argument("--mode", choices=["counter", "hold", "compute", "write"], default="hold")
    parser.add_argument("--lock", required=True)
    parser.add_argument("--ttl", type=seconds, default=15.0, help="such as 10s")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--file")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--register")
    args = parser.parse_args()

    modes = {"counter": counter, "hold": hold, "compute": compute, "write": hold}
    try:
        with Client(args.endpoint) as client:
            modes[args.mode](client, args)
        return 0
    except LocksidecarError as refused:
        print(f"{refused.reason}: {refused}", file=sys.stderr)
        return 75 if isinstance(refused, LeaseLost) else 1


if __name__ == "__main__":
    sys.exit(main())
