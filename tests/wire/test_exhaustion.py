"""A router with few descriptors and many clients: nobody's request breaks, and its operator is answered (R-27)."""

from __future__ import annotations

import contextlib
import re
import resource
import selectors
import socket
import threading
from pathlib import Path

from tests.fakes.process import SOON, manifest, router, running, soon

FILES = 256
CLIENTS = 1000


def figure(metrics: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def test_a_thousand_clients_and_256_descriptors(tmp_path: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with running("one") as app:
        (tmp_path / "web.yaml").write_text(manifest("shop/web", app))
        # One process: its descriptors are what is counted here, and clients that are connected and silent for half a
        # second make room for others, which is sooner than metrics are collected from workers on a busy machine.
        with router(tmp_path, "--workers", "0", files=FILES) as served, contextlib.ExitStack() as crowd:
            answers: list[tuple[int, str]] = []
            early = [threading.Thread(target=lambda: answers.append(served.get("/slow"))) for _ in range(20)]
            for each in early:
                each.start()
            for _ in early:
                app.asked.get(timeout=SOON)
            heard = crowd.enter_context(selectors.DefaultSelector())
            for _ in range(CLIENTS):
                client = crowd.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", served.ports["http"]))
                heard.register(client, selectors.EVENT_WRITE)
            # Its operator is answered while every place is taken.
            soon(lambda: figure(served.admin("/metrics")[1], "router_accept_pauses_total") > 0)
            assert served.admin("/healthz")[0] == 200
            metrics = served.admin("/metrics")[1]
            assert figure(metrics, "process_max_fds") == FILES
            assert figure(metrics, "process_open_fds") <= FILES - 16
            # What was under way ends well.
            app.go.set()
            for each in early:
                each.join(SOON)
            assert answers == [(200, "one")] * len(early)
            # Everybody is served in the end, though each would stay for ever.
            assert ask_all(heard) == CLIENTS
            crowd.close()
            assert served.get()[0] == 200
            soon(lambda: figure(served.admin("/metrics")[1], 'router_connection_places{state="taken"}') <= 1)
            assert served.process.poll() is None


def ask_all(heard: selectors.BaseSelector) -> int:
    """Each client asks when it is connected, and stays until it is let go; how many were answered by their app."""
    answered = 0
    while heard.get_map():
        ready = heard.select(SOON)
        assert ready, f"{answered} were answered, nobody else will be"
        for key, events in ready:
            client = key.fileobj
            assert isinstance(client, socket.socket)
            if events & selectors.EVENT_WRITE:
                client.send(b"GET / HTTP/1.1\r\nHost: web.localhost\r\n\r\n")
                heard.modify(client, selectors.EVENT_READ)
            elif client.recv(65536).startswith(b"HTTP/1.1 200 "):
                answered += 1
                heard.unregister(client)
            else:
                raise AssertionError("a client was refused")
    return answered
