"""A leader loop: of many processes one leads, until it ends or loses its lease; then the next one does.

    python leader.py --name web-1 --lock leader
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from locksidecar import LeaseLost, Unavailable, aio


async def lead(name: str, lease: aio.Lease) -> None:
    """The leader's work. A loss cancels it at its next await; what it writes carries the token."""
    print(f"{name} leads with token {lease.fencing_token}", flush=True)
    while True:
        await asyncio.sleep(0.1)


async def campaign(name: str, endpoint: str | None, lock: str) -> None:
    async with aio.Client(endpoint) as client:
        while True:
            try:
                async with client.lock(lock, ttl=5, owner=name, cancel_on_loss=True) as lease:
                    await lead(name, lease)
            except LeaseLost as lost:
                print(f"{name} does not lead any more: {lost.details['cause']}", flush=True)
            except Unavailable as away:
                print(f"{name} cannot lead: {away}", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint")
    parser.add_argument("--name", required=True)
    parser.add_argument("--lock", default="leader")
    args = parser.parse_args()
    task = asyncio.ensure_future(campaign(args.name, args.endpoint, args.lock))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        print(f"{args.name} steps down", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
