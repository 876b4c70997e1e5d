"""Fetch images from addresses that nobody vouches for: many at once, safely, and resumably.

- ``http`` and ``https`` only, and only addresses of the public internet: every connection, also
  after a redirect, goes to an IP address that was checked, and not to a name that may mean another
  one a moment later (DNS rebinding). No proxy of the environment is used.
- Every attempt has time-outs for connecting, for each read and for the whole, from the look-up of
  the host to the last pixel; what may pass (time-outs, broken connections, truncated answers, 429
  and 5xx) is tried again.
- An answer is an image if it can be decoded, whatever type it claims; larger ones than
  ``Limits.bytes`` are cut off. Files are written whole or not at all, and those that are there are
  not fetched again.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import urllib3
from tqdm import tqdm
from urllib3 import exceptions
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.connection import create_connection

from faces.files import replacing
from faces.images import ImageError, read_image

SCHEMES = ("http", "https")
T = TypeVar("T")
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

NAT64 = ipaddress.ip_network("64:ff9b::/96")
NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "::/96",  # an IPv4 address written as an IPv6 one, out of use
            "64:ff9b:1::/48",  # NAT64 of a local network
            "fec0::/10",  # of a site, out of use
            "3fff::/20",  # documentation
            "5f00::/16",  # segment routing inside a network
            "192.0.0.0/24",  # protocols, and one cloud's metadata
            "192.88.99.0/24",  # relays of 6to4, out of use
            "168.63.129.16/32",  # the metadata of a cloud's machines; others lie in private ranges
        ),
    )
)
"""What Python's ``is_global`` lets pass, in some of its versions."""

REPORT = "download.json"
"""The file of the report in the folder of the images; no image has this name."""

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which another attempt may succeed."""

LONGEST_NAME = 240
"""Longest file name in bytes; most file systems take 255."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a fetch."""

    bytes: int = 25_000_000  # size of an image
    connect: float = 10.0  # seconds until a connection stands
    read: float = 15.0  # seconds between two pieces of an answer
    total: float = 60.0  # seconds for one attempt, redirects included
    attempts: int = 3  # how often at most
    pause: float = 1.0  # seconds before the second attempt; twice that before the third, and so on
    redirects: int = 5  # how many in a row


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image to fetch: its address, and the name of the file to write."""

    url: str
    name: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of fetching one image."""

    url: str
    name: str
    status: str  # ``fetched``, ``there`` (before) or ``dead``
    cause: str = ""  # why it is dead, else ""


class DeadLinkError(Exception):
    """An address gives no image; the message says why.

    ``passing`` says whether another attempt may succeed.
    """

    def __init__(self, cause: str, passing: bool = False) -> None:
        super().__init__(cause)
        self.passing = passing


class ForbiddenLinkError(DeadLinkError):
    """An address that is not on the public internet; the message names the IP address."""


class _ForbiddenAddressError(exceptions.HTTPError):
    """A name stands for an address that is not on the public internet."""


def is_public(address: IPAddress) -> bool:
    """Tell whether an IP address is public; an IPv4 address inside an IPv6 one counts as itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    if any(address in network for network in NOT_PUBLIC if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast


def fetch_all(
    wanted: Sequence[Wanted],
    folder: Path,
    limits: Limits | None = None,
    workers: int = 16,
    private: bool = False,
) -> Iterator[Outcome]:
    """Fetch images into a folder, several at a time; yield outcomes in the order of ``wanted``.

    A missing folder is made; files that are in it already are kept, and not fetched.

    Args:
        wanted: the images, each name once.
        limits: of each image; None for the defaults.
        workers: how many at a time.
        private: allow addresses of this machine and its network too: for tests, or a mirror there.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fetcher = _Fetcher(limits or Limits(), private)

    def fetch(one: Wanted) -> Outcome:
        path = folder / one.name
        try:
            check_name(one.name)
            if path.is_file():
                return Outcome(one.url, one.name, "there")
            data = fetcher.image(one.url)
        except DeadLinkError as error:
            return Outcome(one.url, one.name, "dead", str(error))
        with replacing(path) as part:
            part.write_bytes(data)
        return Outcome(one.url, one.name, "fetched")

    pool = ThreadPoolExecutor(workers)
    try:
        results = pool.map(fetch, wanted)
        yield from tqdm(results, total=len(wanted), unit="image", desc="fetching", disable=None)
    finally:
        fetcher.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def fetch_image(url: str, limits: Limits | None = None, private: bool = False) -> bytes:
    """Return the bytes of the image at an address of ``http`` or ``https``; see ``fetch_all``.

    Raises:
        DeadLinkError: there is none; a ``ForbiddenLinkError`` if the address is not public.
    """
    return _Fetcher(limits or Limits(), private).image(url)


def check_name(name: str) -> None:
    """Raise a ``DeadLinkError`` if a name is not that of a plain file in its folder."""
    bad = not name or name.startswith(".") or any(c in name for c in "/\\\0")
    bad = bad or name.casefold() == REPORT
    if bad or len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
        raise DeadLinkError(f"its file name {name[:60]!r} cannot be used")


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the report of a download: counts, and every dead link with its cause."""
    counts = Counter(outcome.status for outcome in outcomes)
    return {
        "pictures": len(outcomes),
        **{status: counts[status] for status in ("fetched", "there", "dead")},
        "dead_links": [
            {"url": o.url, "name": o.name, "cause": o.cause} for o in outcomes if o.status == "dead"
        ],
    }


class _Fetcher:
    """Fetches one image after another, from any number of threads."""

    def __init__(self, limits: Limits, private: bool) -> None:
        self.limits = limits
        self.stop = threading.Event()
        self._decoding = threading.Lock()  # one large image in memory at a time
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=limits.connect, read=limits.read),
            headers={
                "User-Agent": "twostage/0.1 (research)",
                "Accept-Encoding": "identity",
                "Connection": "close",
            },
        )
        self._http.pool_classes_by_scheme = _pools(private)

    def image(self, url: str) -> bytes:
        """Return the image at an address, or raise a ``DeadLinkError`` after all attempts."""
        for attempt in itertools.count(1):
            try:
                return self._attempt(url)
            except DeadLinkError as error:
                if not error.passing or attempt == self.limits.attempts:
                    raise
            if self.stop.wait(self.limits.pause * 2 ** (attempt - 1)):
                break
        raise DeadLinkError("stopped")

    def _attempt(self, url: str) -> bytes:
        attempt = _ATTEMPT.now = _Attempt(time.monotonic() + self.limits.total)
        cut = threading.Timer(self.limits.total, attempt.cut)
        cut.daemon = True
        cut.start()
        late = DeadLinkError(f"not there after {self.limits.total:g} s", passing=True)
        try:
            data, kind = self._follow(url, attempt)
            attempt.within(self._decode, data, url)
        except ImageError as error:
            raise DeadLinkError(f"no image ({kind}): {error.cause}") from error
        except (exceptions.HTTPError, OSError, ValueError) as error:
            raise (late if attempt.over.is_set() else _dead(error)) from error
        finally:
            cut.cancel()
            attempt.close()
        if attempt.over.is_set():
            raise late
        return data

    def _decode(self, data: bytes, url: str) -> None:
        with self._decoding:
            read_image(data, name=url)

    def _follow(self, url: str, attempt: _Attempt) -> tuple[bytes, str]:
        """Return what an address holds in the end, and which type it claims."""
        for _ in range(self.limits.redirects + 1):
            if urlsplit(url).scheme.lower() not in SCHEMES:
                raise DeadLinkError(f"{url[:80]}: neither http nor https")
            answer = self._http.request(
                "GET", url, preload_content=False, redirect=False, retries=False
            )
            attempt.ends.append(answer.shutdown)
            try:
                target = answer.get_redirect_location()
                if not target:
                    return self._body(answer), answer.headers.get("Content-Type", "no type")
                url = urljoin(url, target)
            finally:
                answer.close()
        raise DeadLinkError(f"more than {self.limits.redirects} redirects")

    def _body(self, answer: urllib3.BaseHTTPResponse) -> bytes:
        if answer.status != 200:
            raise DeadLinkError(f"HTTP status {answer.status}", answer.status in PASSING)
        too_large = DeadLinkError(f"larger than {self.limits.bytes / 1e6:g} MB")
        if int(answer.headers.get("Content-Length", "0")) > self.limits.bytes:
            raise too_large
        data = bytearray()
        while piece := answer.read1(1 << 16, decode_content=False):
            data += piece
            if len(data) > self.limits.bytes:
                raise too_large
        return bytes(data)


class _Attempt:
    """One attempt to fetch an image, and when it must be over.

    Attributes:
        deadline: in the seconds of ``time.monotonic``.
        over: set when it is.
        ends: what ends its connections.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.over = threading.Event()
        self.ends: list[Callable[[], None]] = []
        self._twins: list[socket.socket] = []

    def watch(self, opened: socket.socket) -> None:
        """Let ``cut`` end a connection, also while TLS takes its socket over."""
        twin = opened.dup()
        self._twins.append(twin)
        self.ends.append(lambda: twin.shutdown(socket.SHUT_RDWR))

    def left(self) -> float:
        """Return the seconds left, or raise a ``TimeoutError`` if there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            self.over.set()
            raise TimeoutError("the time is over")
        return left

    def within(self, action: Callable[..., T], *arguments: Any) -> T:
        """Call something that cannot be interrupted; when the time is over, leave it to itself.

        A ``TimeoutError`` says that it was.
        """
        outcome: Future[T] = Future()

        def call() -> None:
            try:
                outcome.set_result(action(*arguments))
            except Exception as error:
                outcome.set_exception(error)

        threading.Thread(target=call, daemon=True).start()
        if not wait([outcome], timeout=self.left()).done:
            self.over.set()
            raise TimeoutError("the time is over")
        return outcome.result()

    def cut(self) -> None:
        """End the connections; the thread that reads from them then goes on."""
        self.over.set()
        for end in list(self.ends):
            with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
                end()

    def close(self) -> None:
        """Let go of the connections."""
        for twin in self._twins:
            twin.close()


_ATTEMPT = threading.local()
"""``now`` is this thread's attempt."""


def _dead(error: Exception) -> DeadLinkError:
    """Say in a few words what went wrong, and whether it may pass."""
    if isinstance(error, _ForbiddenAddressError):
        return ForbiddenLinkError(str(error))
    for kind, cause, passing in _CAUSES:
        if isinstance(error, kind):
            return DeadLinkError(cause, passing)
    return DeadLinkError(" ".join(str(error).split())[:200] or type(error).__name__, passing=True)


_CAUSES: tuple[tuple[type[Exception], str, bool], ...] = (
    (exceptions.NameResolutionError, "no such host", False),
    (exceptions.NewConnectionError, "no connection", True),
    (exceptions.ConnectTimeoutError, "no connection in time", True),
    (exceptions.ReadTimeoutError, "no answer in time", True),
    (exceptions.SSLError, "the host's certificate is not valid", False),
    (exceptions.ProtocolError, "the answer broke off", True),
    (exceptions.LocationValueError, "no usable address", False),
    (ValueError, "no usable address or answer", False),
)
"""What urllib3 raises → what the report says, and whether another attempt may succeed."""


def _connect(made_for: HTTPConnection, private: bool) -> socket.socket:
    """Resolve a connection's host once, check every address, and connect to one of those.

    Raises:
        _ForbiddenAddressError: one of them is not public.
        HTTPError: the host is unknown or does not answer.
    """
    host, port = made_for.host.strip("[]"), made_for.port
    attempt: _Attempt = _ATTEMPT.now
    try:
        resolved = attempt.within(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (socket.gaierror, UnicodeError) as error:
        raise exceptions.NameResolutionError(host, made_for, socket.gaierror(str(error))) from error
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in resolved))
    for address in addresses:
        if not private and not is_public(ipaddress.ip_address(address)):
            raise _ForbiddenAddressError(f"{host} is {address}, not on the public internet")
    failure: OSError | None = None
    for address in addresses:
        try:
            seconds = min(made_for.timeout or attempt.left(), attempt.left())
            opened = create_connection((address, port), seconds)
        except OSError as error:
            failure = error
            continue
        opened.settimeout(made_for.timeout)
        attempt.watch(opened)
        return opened
    if isinstance(failure, TimeoutError):
        raise exceptions.ConnectTimeoutError(made_for, "no answer") from failure
    raise exceptions.NewConnectionError(made_for, str(failure)) from failure


def _pools(private: bool) -> dict[str, type[HTTPConnectionPool]]:
    """Return scheme → pool whose connections are all made by ``_connect``."""

    def connect(made_for: HTTPConnection) -> socket.socket:
        return _connect(made_for, private)

    pools: dict[str, type[HTTPConnectionPool]] = {}
    for scheme, pool in (("http", HTTPConnectionPool), ("https", HTTPSConnectionPool)):
        kind = type("Connection", (pool.ConnectionCls,), {"_new_conn": connect})
        pools[scheme] = type("Pool", (pool,), {"ConnectionCls": kind})
    return pools
