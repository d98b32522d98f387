"""Health check of a container: one small request to the service in it, without curl and without our packages.

It runs every few seconds in every container, so it imports next to nothing: a socket and a line of
HTTP. With a certificate (DRIZZLE_TLS_CERT) it speaks TLS, and does not verify: it asks whether this
process answers, not who it is.

    healthy.py [PATH]        /readyz without a path: may it be given work?  /healthz: does it turn its loop?
"""

from __future__ import annotations

import os
import socket
import sys

PORTS = {"coordinator": 7070, "source": 7071, "worker": 7072}
TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 4096


def main() -> int:
    """0 for an answer of 200; 1 with the reason on standard output for any other, or none."""
    path = sys.argv[1] if len(sys.argv) > 1 else "/readyz"
    port = int(os.environ.get("DRIZZLE_PORT") or PORTS["coordinator"])
    request = f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"
    try:
        with _connected(port) as connection:
            connection.sendall(request.encode())
            answer = _everything(connection)
    except OSError as error:
        sys.stdout.write(f"{path} on port {port}: {error}\n")
        return 1
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split()[1:2] == [b"200"]:
        return 0
    said = (body or head).decode(errors="replace")
    sys.stdout.write(f"{path} on port {port}: {said}\n")
    return 1


def _connected(port: int) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
    if not os.environ.get("DRIZZLE_TLS_CERT"):
        return plain
    import ssl  # here: 0.03 s that a cluster without TLS need not spend

    return ssl._create_unverified_context().wrap_socket(plain)


def _everything(connection: socket.socket) -> bytes:
    answer = b""
    while len(answer) < ANSWER_BYTES_MAX:
        part = connection.recv(ANSWER_BYTES_MAX)
        if not part:
            break
        answer += part
    return answer


if __name__ == "__main__":
    raise SystemExit(main())
