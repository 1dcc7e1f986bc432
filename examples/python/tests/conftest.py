"""A real sidecar for each test that asks for one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PATIENCE = 60.0  # seconds; bounds each wait for something that must come
ROOT = Path(__file__).resolve().parents[3]


def eventually(what: str, condition: Callable[[], bool]) -> None:
    """Looks until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.005)


class Sidecar:
    """The daemon, with the embedded store, at a socket of its own."""

    def __init__(self, binary: str, directory: str) -> None:
        self.path = os.path.join(directory, "run", "api.sock")
        self.endpoint = f"unix://{self.path}"
        self._binary = binary
        self._log = open(os.path.join(directory, "log"), "ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [self._binary, "serve", "--backend", "embedded:", "--socket", self.path]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        eventually("the sidecar listens", self._listens)

    def _listens(self) -> bool:
        assert self.process is not None and self.process.poll() is None, Path(self._log.name).read_text()
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.path) == 0

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
            self.process = None

    def close(self) -> None:
        self.end()
        self._log.close()


@pytest.fixture(scope="session")
def binary() -> Iterator[str]:
    """The daemon's binary: that of LOCKSIDECAR_BIN, else built."""
    if given := os.environ.get("LOCKSIDECAR_BIN"):
        yield given
        return
    directory = tempfile.mkdtemp(prefix="lspy")
    path = os.path.join(directory, "locksidecar")
    subprocess.run(["go", "build", "-o", path, "./cmd/locksidecar"], cwd=ROOT, check=True)
    yield path
    shutil.rmtree(directory)


@pytest.fixture
def absent(binary: str) -> Iterator[Sidecar]:
    """A sidecar that was not started yet."""
    directory = tempfile.mkdtemp(prefix="lspy")  # short: a socket's path is bounded
    s = Sidecar(binary, directory)
    yield s
    s.close()
    shutil.rmtree(directory)


@pytest.fixture
def sidecar(absent: Sidecar) -> Sidecar:
    absent.start()
    return absent
