"""A contended counter: several processes increment a file that has no atomicity of its own.

    python counter.py --file /tmp/counter --processes 4 --count 50
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path

from locksidecar import Client


def increment(endpoint: str | None, path: Path, count: int) -> None:
    with Client(endpoint) as client:
        lock = client.lock(f"counter/{path.name}", ttl=10)
        for _ in range(count):
            with lock:
                path.write_text(str(int(path.read_text()) + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint")
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--count", type=int, default=50)
    args = parser.parse_args()
    args.file.write_text("0")
    processes = [multiprocessing.Process(target=increment, args=(args.endpoint, args.file, args.count)) for _ in range(args.processes)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    value, expected = int(args.file.read_text()), args.processes * args.count
    print(f"{value} increments of {expected}")
    raise SystemExit(0 if value == expected and all(p.exitcode == 0 for p in processes) else 1)


if __name__ == "__main__":
    main()
