"""What can be wrong with Podman's service: each as a context that ends with it being well again."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator

from tests.support.podman import PodmanService


class _Broken(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.request.recv(65536)
            body = b'{"cause":"out of order","message":"the database is out of order","response":500}'
            head = f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {len(body)}\r\nConnection: close"
            self.request.sendall(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def absent(podman: PodmanService) -> Iterator[str]:
    """No socket; gives the reason that a node should show."""
    podman.stop()
    podman.socket.unlink(missing_ok=True)
    yield "RuntimeUnavailable"
    podman.start()


@contextlib.contextmanager
def frozen(podman: PodmanService) -> Iterator[str]:
    """A socket that takes connections and answers nothing."""
    podman.process.freeze()
    yield "RuntimeUnavailable"
    podman.process.thaw()


@contextlib.contextmanager
def answering_500(podman: PodmanService) -> Iterator[str]:
    """A service that is out of order."""
    podman.stop()
    podman.socket.unlink(missing_ok=True)
    with _Server(str(podman.socket), _Broken) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield "RuntimeError"
        server.shutdown()
        thread.join(5)
    podman.start()
