"""Two hundred edits under steady traffic: every one of them takes effect, and no request is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from drycc_tls.certificate import Certificate
from drycc_tls.self_signed import self_signed
from tests.fakes.process import App, Router, manifest, router, running, secret, soon

EDITS = 200
CLIENTS = 8
PAUSE = 0.02
"""Seconds between two requests of one client: a few hundred requests a second, as the machine allows."""


class Traffic:
    """Clients on connections of their own that ask for ``web.localhost`` again and again."""

    def __init__(self, child: Router) -> None:
        self._child = child
        self.answers: Counter[object] = Counter()
        self.stop = asyncio.Event()

    async def client(self) -> None:
        while not self.stop.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", self._child.ports["http"])
            try:
                for _ in range(50):  # then on a new connection, so that accepting is part of it
                    writer.write(b"GET / HTTP/1.1\r\nHost: web.localhost\r\n\r\n")
                    head = await reader.readuntil(b"\r\n\r\n")
                    body = await reader.readexactly(
                        int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                    )
                    self.answers[head[9:12], body] += 1
                    await asyncio.sleep(PAUSE)
                    if self.stop.is_set():
                        break
            except (OSError, EOFError) as error:
                self.answers[type(error).__name__] += 1
            finally:
                writer.close()
                await writer.wait_closed()


class Manifests:
    """What is written, edit by edit, and how to see that it is in force."""

    def __init__(self, folder: Path, child: Callable[[], Router], apps: tuple[App, App]) -> None:
        self._folder = folder
        self._child = child
        self._apps = apps
        self._pairs = [self_signed(datetime(2026, 1, 1, tzinfo=UTC)) for _ in range(2)]
        self._names = ["web.localhost"]
        self._web, self._pair = 0, 0
        self._closed, self._maintained = False, False
        self.write()

    def write(self, number: int = 0) -> None:
        """Everything as it should be now; over the old files, or beside them and renamed, by turns."""
        web = manifest(
            "shop/web", self._apps[self._web], domains=",".join(self._names), certificates="web.localhost:web"
        )
        admin = manifest(
            "shop/side",
            self._apps[0],
            maintenance=str(self._maintained),
            **({"whitelist": "192.0.2.0/24"} if self._closed else {}),
        )
        for name, text in (("apps.yaml", f"{web}---\n{admin}"), ("web.yaml", secret("shop/web-cert", self._pair_now))):
            file = self._folder / name
            if number % 2:
                beside = file.with_suffix(".new")
                beside.write_text(text)
                beside.rename(file)
            else:
                file.write_text(text)

    @property
    def _pair_now(self) -> Certificate:
        return self._pairs[self._pair]

    def edit(self, number: int) -> Callable[[], bool]:
        """Make the next edit; the answer tells whether it is in force."""
        name = f"new-{number}.localhost"
        seen: Callable[[], bool]
        match number % 5:
            case 0:
                self._names = ["web.localhost", name]
                seen = partial(self._answers, name, 200)
            case 1:
                self._web = 1 - self._web
                seen = self._moved
            case 2:
                self._closed = True
                seen = partial(self._answers, "side.localhost", 403)
            case 3:
                self._closed, self._maintained = False, not self._maintained
                seen = partial(self._answers, "side.localhost", 503 if self._maintained else 200)
            case _:
                self._pair = 1 - self._pair
                seen = self._presented
        self.write(number)
        return seen

    def _answers(self, host: str, status: int) -> bool:
        return self._child().get(host=host)[0] == status

    def _moved(self) -> bool:
        return self._child().get()[1] == self._apps[self._web].name

    def _presented(self) -> bool:
        return self._child().certificate().strip() == self._pair_now.chain_pem.decode().strip()


def test_two_hundred_edits_under_traffic_lose_no_request(tmp_path: Path) -> None:
    async def story(child: Router) -> Counter[object]:
        traffic = Traffic(child)
        clients = [asyncio.ensure_future(traffic.client()) for _ in range(CLIENTS)]
        for number in range(EDITS):
            seen = manifests.edit(number)
            await asyncio.to_thread(soon, seen)
        traffic.stop.set()
        await asyncio.gather(*clients)
        return traffic.answers

    with running("first") as first, running("second") as second:
        manifests = Manifests(tmp_path, lambda: child, (first, second))
        with router(tmp_path) as child:
            answers = asyncio.run(story(child))
    assert answers.keys() == {(b"200", b"first"), (b"200", b"second")}
    assert answers.total() > 5 * EDITS
