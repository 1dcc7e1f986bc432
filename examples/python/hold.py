"""Holds a lock over a Hold stream, in one of four ways. Prints one JSON object a line.

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

from locksidecar.holder import Holder, NotGranted, dial
from locksidecar.v1 import lock_pb2, lock_pb2_grpc


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def say_granted(lease: lock_pb2.Lease) -> None:
    say("granted", fencing_token=str(lease.fencing_token), valid_for=lease.valid_for.ToNanoseconds() / 1e9)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def watch(holder: Holder) -> None:
    """Tells of losses until the stream ends."""
    for event in holder.events():
        if event.WhichOneof("event") == "lost":
            say("lost", reason=event.lost.reason)
            return
    say("lost", reason="stream ended")


def counter(holder: Holder, args: argparse.Namespace) -> None:
    for _ in range(args.count):
        lease = holder.acquire(args.lock, args.ttl)
        with open(args.file, encoding="ascii") as f:
            value = int(f.read())
        with open(args.file, "w", encoding="ascii") as f:
            f.write(str(value + 1))
        holder.release(lease)
    say("counted", count=args.count)


def compute(holder: Holder, args: argparse.Namespace, stub: lock_pb2_grpc.LockServiceStub) -> None:
    lease = holder.acquire(args.lock, args.ttl)
    say_granted(lease)
    end, n = time.monotonic() + args.seconds, 1
    while time.monotonic() < end:
        n = pow(n + 1, 65537, (1 << 4096) - 1)  # keeps the interpreter's lock
    while (event := holder.poll()) is not None:
        if event.WhichOneof("event") == "lost":
            say("lost", reason=event.lost.reason)
            return
    holders = stub.Get(lock_pb2.GetRequest(lock_id=args.lock)).holders
    say("still_held" if [h.fencing_token for h in holders] == [lease.fencing_token] else "not_held")


def write(url: str, token: int, value: str) -> int:
    body = json.dumps({"token": str(token), "value": value}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST")) as response:
            return int(response.status)
    except urllib.error.HTTPError as refused:
        return refused.code


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

    channel = dial(args.endpoint)
    stub = lock_pb2_grpc.LockServiceStub(channel)
    holder = Holder(stub)
    try:
        if args.mode == "counter":
            counter(holder, args)
            return 0
        if args.mode == "compute":
            compute(holder, args, stub)
            return 0
        lease = holder.acquire(args.lock, args.ttl)
        say_granted(lease)
        threading.Thread(target=watch, args=(holder,), daemon=True).start()
        for line in sys.stdin:
            if args.mode == "write":
                say("write", status=write(args.register, lease.fencing_token, line.strip()))
        return 0
    except NotGranted as refused:
        print(f"not granted: {refused}", file=sys.stderr)
        return 1
    finally:
        holder.close()
        channel.close()


if __name__ == "__main__":
    sys.exit(main())
