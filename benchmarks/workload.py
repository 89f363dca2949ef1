"""What is asked of every proxy: the hosts of a thousand apps, a browser's headers, and the requests made of them.

Pure. A request is text with two placeholders: ``{n}`` (a number that never repeats within one run of a load generator)
and ``{host}``. What must not enter: how the load is made (``load``, ``openloop``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["APPS", "MEASURED", "MIB", "SITE_DOMAIN", "SMALL_ANSWER", "Request", "host_of", "requests"]

APPS: Final = 1000
SITE_DOMAIN: Final = "bench.test"
MIB: Final = 1024 * 1024
SMALL_ANSWER: Final = b"hello from the application server\n"
"""34 bytes."""


def host_of(app: int) -> str:
    """Return the host name of app number ``app``."""
    return f"app-{app:04d}.{SITE_DOMAIN}"


MEASURED: Final = host_of(APPS // 2)
"""The app that single-app scenarios ask for: in the middle of the table, since some proxies search it in order."""

_BROWSER: Final = (
    ("Host", "{host}"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    ),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Upgrade-Insecure-Requests", "1"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-CH-UA", '"Chromium";v="140", "Not=A?Brand";v="24"'),
    ("Sec-CH-UA-Mobile", "?0"),
    ("Sec-CH-UA-Platform", '"Linux"'),
)
"""Twelve of the fourteen; Referer and Cookie come from the request, because they are what differs in real life."""


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of request. ``body`` bytes of the letter x follow the head; ``close`` asks for a new connection each."""

    method: str
    target: str
    referer: str
    cookie: str
    body: int = 0
    close: bool = False
    every_app: bool = False
    """Ask for another of the thousand apps each time, instead of always the same one."""

    @property
    def varies(self) -> bool:
        """Whether no two requests are the same bytes."""
        return self.every_app or "{n}" in self.target

    def fields(self) -> list[tuple[str, str]]:
        """Return the header fields, in order, with their placeholders."""
        fields = [*_BROWSER, ("Referer", self.referer), ("Cookie", self.cookie)]
        if self.body:
            fields.append(("Content-Length", str(self.body)))
        if self.close:
            fields.append(("Connection", "close"))
        return fields

    def head(self) -> str:
        """Return the head with its placeholders, CRLF line ends and the empty line included."""
        fields = self.fields()
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        return "\r\n".join(lines) + "\r\n\r\n"


_STEADY_COOKIE: Final = "session=3f9c1b7de2a84d55; theme=dark; _consent=analytics:0,ads:0"

requests: Final = {
    "small": Request("GET", "/products/list?page=2", "https://{host}/products/list?page=1", _STEADY_COOKIE),
    "varied": Request(
        "GET",
        "/products/{n}?from=list",
        "https://{host}/products/list?page={n}",
        "session=3f9c1b7de2a8{n}; theme=dark; _consent=analytics:0,ads:0",
    ),
    "apps": Request(
        "GET",
        "/products/{n}?from=list",
        "https://{host}/products/list?page={n}",
        "session=3f9c1b7de2a8{n}; theme=dark; _consent=analytics:0,ads:0",
        every_app=True,
    ),
    "close": Request("GET", "/products/list?page=2", "https://{host}/products/list?page=1", _STEADY_COOKIE, close=True),
    "download": Request("GET", "/one-mib", "https://{host}/products/list?page=1", _STEADY_COOKIE),
    "upload": Request("POST", "/upload", "https://{host}/products/list?page=1", _STEADY_COOKIE, body=MIB),
    "endless": Request("GET", "/endless", "https://{host}/products/list?page=1", _STEADY_COOKIE),
    "inspect": Request("GET", "/inspect", "https://{host}/products/list?page=1", _STEADY_COOKIE),
}
"""Every kind of request by its name."""
