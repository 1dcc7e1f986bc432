"""A cron singleton: every host starts the job at the same minute, one of them runs it.

The slot of the schedule is part of what is remembered under the lock, so that a host whose clock is late does not run
the job again after the first one has finished.

    python cron.py --slot 2026-01-31T02:00 --state /tmp/nightly -- CMD ARG…
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from locksidecar import Client, LeaseLost, LockHeld


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint")
    parser.add_argument("--lock", default="cron/nightly")
    parser.add_argument("--slot", required=True, help="the run that is due")
    parser.add_argument("--state", type=Path, required=True, help="the last slot that was run, where every host sees it")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    try:
        with Client(args.endpoint) as client, client.lock(args.lock, ttl=10, wait=0) as lease:
            if args.state.exists() and args.state.read_text() >= args.slot:
                print("done already")
                return 0
            job = subprocess.Popen(args.command)
            while job.poll() is None:
                if lease.lost.wait(0.05):  # somebody else may run it from now on
                    job.terminate()
                    job.wait()
            lease.check()
            if job.returncode == 0:
                args.state.write_text(args.slot)
            return job.returncode
    except LockHeld as held:
        print(f"runs on {held.details.get('holder', 'another host')}")
        return 0
    except LeaseLost as lost:
        print(f"stopped: {lost}", file=sys.stderr)
        return 75


if __name__ == "__main__":
    sys.exit(main())
