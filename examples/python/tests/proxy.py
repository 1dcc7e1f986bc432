"""A proxy between a client and the sidecar's socket, which breaks connections on demand."""

from __future__ import annotations

import os
import socket
import threading


class Proxy:
    """Passes bytes on in both ways. The sidecar sees the process of the tests as its peer, as without it."""

    def __init__(self, directory: str, target: str) -> None:
        self._target = target
        self.path = os.path.join(directory, "proxy.sock")
        self.endpoint = f"unix://{self.path}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(16)
        self._guard = threading.Lock()
        self._connections: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> int:
        """Breaks every connection, and returns how many there were."""
        with self._guard:
            broken, self._connections = self._connections, set()
        for connection in broken:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended by itself
        return len(broken) // 2

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                continue
            with self._guard:
                self._connections |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
        except OSError:
            pass  # broken on demand
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self._guard:
            self._connections -= {source, sink}
