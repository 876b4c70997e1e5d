"""Spellings of addresses that are not public: none may be fetched from."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from faces.fetch import Limits, Wanted, fetch_all

LIMITS = Limits(bytes=10_000, connect=1, read=1, total=3, attempts=1, pause=0, redirects=3)

PRIVATE = """
http://127.0.0.1:{port}/a.jpg
http://127.1:{port}/a.jpg
http://127.0.1:{port}/a.jpg
http://127.255.255.254:{port}/a.jpg
http://2130706433:{port}/a.jpg
http://017700000001:{port}/a.jpg
http://0x7f000001:{port}/a.jpg
http://0x7f.0.0.1:{port}/a.jpg
http://0x7F.1:{port}/a.jpg
http://0177.0.0.1:{port}/a.jpg
http://0177.0.0.01:{port}/a.jpg
http://00000177.1:{port}/a.jpg
http://0:{port}/a.jpg
http://0.0.0.0:{port}/a.jpg
http://0x0:{port}/a.jpg
http://127.0.0.1.:{port}/a.jpg
http://localhost:{port}/a.jpg
http://LOCALHOST:{port}/a.jpg
http://localhost.:{port}/a.jpg
http://user:password@127.0.0.1:{port}/a.jpg
http://8.8.8.8@127.0.0.1:{port}/a.jpg
http://8.8.8.8%40127.0.0.1:{port}/a.jpg
http://8.8.8.8%2f@127.0.0.1:{port}/a.jpg
http://127.0.0.1%00.8.8.8.8:{port}/a.jpg
http://127.0.0.1:{port}#@8.8.8.8/a.jpg
http://127.0.0.1:{port}\\@8.8.8.8/a.jpg
http://8.8.8.8\\@127.0.0.1:{port}/a.jpg
http:\\\\127.0.0.1:{port}/a.jpg
http:/127.0.0.1:{port}/a.jpg
http:127.0.0.1:{port}/a.jpg
http:////127.0.0.1:{port}/a.jpg
//127.0.0.1:{port}/a.jpg
HTTP://127.0.0.1:{port}/a.jpg
http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:{port}/a.jpg
http://127。0。0。1:{port}/a.jpg
http://①②⑦.⓪.⓪.①:{port}/a.jpg
http://ⓛocalhost:{port}/a.jpg
http://%31%32%37.0.0.1:{port}/a.jpg
http://[::1]:{port}/a.jpg
http://[0:0:0:0:0:0:0:1]:{port}/a.jpg
http://[::]:{port}/a.jpg
http://[::1%25lo]:{port}/a.jpg
http://[::1%lo]:{port}/a.jpg
http://[::ffff:127.0.0.1]:{port}/a.jpg
http://[::ffff:7f00:1]:{port}/a.jpg
http://[::127.0.0.1]:{port}/a.jpg
http://[::ffff:0:127.0.0.1]:{port}/a.jpg
http://[64:ff9b::127.0.0.1]:{port}/a.jpg
http://[64:ff9b:1::127.0.0.1]:{port}/a.jpg
http://[2002:7f00:1::]:{port}/a.jpg
http://[fe80::1%25eth0]:{port}/a.jpg
http://[fec0::1]:{port}/a.jpg
http://[fc00::1]:{port}/a.jpg
http://[3fff::1]:{port}/a.jpg
http://[5f00::1]:{port}/a.jpg
http://10.0.0.1:{port}/a.jpg
http://172.16.0.1:{port}/a.jpg
http://192.168.0.1:{port}/a.jpg
http://100.64.0.1:{port}/a.jpg
http://169.254.169.254/latest/meta-data/a.jpg
http://2852039166/latest/a.jpg
http://0xa9fea9fe/latest/a.jpg
http://[::ffff:169.254.169.254]/a.jpg
http://[fd00:ec2::254]/a.jpg
http://168.63.129.16/a.jpg
http://100.100.100.200/a.jpg
http://192.0.0.192/a.jpg
http://255.255.255.255:{port}/a.jpg
http://224.0.0.1:{port}/a.jpg
http://127.0.0.1:{port}
http://127.0.0.1:00{port}/a.jpg
http://127.0.0.1 :{port}/a.jpg
http://127.0.0.1\t:{port}/a.jpg
\x00http://127.0.0.1:{port}/a.jpg
 http://127.0.0.1:{port}/a.jpg
file:///etc/hostname
file://127.0.0.1/etc/hostname
ftp://127.0.0.1/a.jpg
gopher://127.0.0.1:{port}/_a.jpg
data:image/jpeg;base64,AAAA
""".strip("\n").splitlines()


PUBLIC = "93.184.216.34"


class _Redirecting(BaseHTTPRequestHandler):
    """Sends whoever asks for ``/N`` to the N-th of ``PRIVATE``."""

    def do_GET(self) -> None:
        number = self.path.strip("/")
        if not number.isdigit():  # a redirect that was taken as a path of this server
            self.send_error(404)
            return
        target = spelled(int(number))
        self.send_response(302)
        self.send_header("Location", target.encode("utf-8", "replace").decode("latin1"))
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def spelled(number: int) -> str:
    return PRIVATE[number].format(port=9)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Yield a list of the addresses that are connected to; all but ``PUBLIC`` are refused there.

    ``PUBLIC`` is a server on this machine that redirects.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Redirecting)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    connect, seen = socket.socket.connect, list[str]()

    def watch(self: socket.socket, address: Any) -> None:
        if address[0] == PUBLIC:
            return connect(self, server.server_address)
        seen.append(str(address[0]))
        raise ConnectionRefusedError(address)

    socket.socket.connect = watch  # type: ignore[method-assign,assignment]
    try:
        yield seen
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]
        server.shutdown()
        server.server_close()


def let_through(folder: Path) -> list[str]:
    """Return the spellings that were connected to or fetched, plain and as targets of redirects."""
    wrong = []
    for number in range(len(PRIVATE)):
        for url in (spelled(number), f"http://{PUBLIC}/{number}"):
            with watched() as seen:
                (outcome,) = fetch_all([Wanted(url, "a.jpg")], folder, LIMITS)
            if outcome.status == "fetched" or not all(map(_is_global, seen)):
                wrong.append(f"{PRIVATE[number]} ({url[:30]}): {outcome.status} {seen}")
    return wrong


def _is_global(address: str) -> bool:
    return ipaddress.ip_address(address).is_global
