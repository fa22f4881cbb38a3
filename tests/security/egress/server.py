"""All servers of the tests' internet, one process in a network namespace of its own.

Arguments: the directory of certificate and key, then addresses as `name=address`. Each has HTTP on 80, TLS on 443 and
8443, a line of text on 22, UDP on 53, 443 and 9999. A line of JSON on stdout for each contact; the first line says
`ready`. Whatever is reached answers with `REACHED`.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
from pathlib import Path

_telling = threading.Lock()


def tell(**what: object) -> None:
    with _telling:
        print(json.dumps(what), flush=True)


def tcp(name: str, address: str, port: int, context: ssl.SSLContext | None) -> None:
    server = socket.create_server((address, port), backlog=256)

    def serve() -> None:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=answer, args=(name, port, connection, context), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def answer(name: str, port: int, connection: socket.socket, context: ssl.SSLContext | None) -> None:
    sni: list[str | None] = []
    try:
        with connection:
            connection.settimeout(30)
            if port == 22:
                tell(server=name, port=port)
                connection.sendall(b"REACHED " + name.encode() + b"\n")
                echo(connection)
                return
            if context is not None:
                given = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                given.load_cert_chain(*CERTIFICATE)
                given.sni_callback = lambda _socket, asked, _context: sni.append(asked)  # type: ignore[assignment,return-value]
                connection = given.wrap_socket(connection, server_side=True)
            http(name, port, connection, sni)
    except OSError as error:
        tell(server=name, port=port, error=str(error))


def echo(connection: socket.socket) -> None:
    while data := connection.recv(4096):
        connection.sendall(data)


def http(name: str, port: int, connection: socket.socket, sni: list[str | None]) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return
        data += more
    connection.settimeout(0.3)
    try:
        while more := connection.recv(65536):
            data += more
    except (TimeoutError, ssl.SSLError):
        pass
    first, *lines = data.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    hosts = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("host:")]
    tell(server=name, port=port, request=first, hosts=hosts, sni=sni, size=len(data), heads=data.count(b" HTTP/1."))
    body = f"REACHED {name} hosts={hosts} sni={sni} heads={data.count(b' HTTP/1.')}".encode()
    connection.settimeout(30)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    connection.sendall(head + body)


def udp(name: str, address: str, port: int) -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, port))

    def serve() -> None:
        while True:
            data, peer = server.recvfrom(65536)
            tell(server=name, port=port, udp=data.hex())
            server.sendto(b"REACHED " + data, peer)

    threading.Thread(target=serve, daemon=True).start()


CERTIFICATE = tuple(Path(sys.argv[1]) / file for file in ("certificate.pem", "key.pem"))


def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for pair in sys.argv[2:]:
        name, _, address = pair.partition("=")
        for port in (80, 22):
            tcp(name, address, port, None)
        for port in (443, 8443):
            tcp(name, address, port, context)
        for port in (53, 443, 9999):
            udp(name, address, port)
    tell(ready=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
