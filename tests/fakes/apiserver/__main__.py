"""``python -m tests.fakes.apiserver``: the fake as a process of its own, until SIGTERM or Ctrl-C.

One JSON line tells where it is::

    {"event": "listening", "url": "https://127.0.0.1:41234", "control": "http://127.0.0.1:41235", "pid": 77}
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from pathlib import Path

import uvloop
import yaml

from tests.fakes.apiserver.control import ControlPort
from tests.fakes.apiserver.rights import Rights, ServiceAccount
from tests.fakes.apiserver.server import FakeApiServer


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.apiserver", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="of the API; 0 takes a free one")
    parser.add_argument("--control-port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--tls", action="store_true", help="serve https with an authority of its own")
    parser.add_argument("--kubeconfig", type=Path, help="write one there, and its token file beside it")
    parser.add_argument("--rights", type=Path, help="manifests with Roles and bindings; without: everything is allowed")
    parser.add_argument("--namespace", default="drycc", help="of the ServiceAccount")
    parser.add_argument("--account", default="drycc-router", help="name of the ServiceAccount")
    parser.add_argument("--apps", type=int, default=0, help="apps to begin with, each a Service and a slice")
    parser.add_argument("--certificates", type=int, default=0, help="how many of them have a certificate of their own")
    parser.add_argument("--rsa", action="store_true", help="with RSA keys")
    parser.add_argument("--address", default="10.1.0.1", help="of the endpoint of every such app")
    parser.add_argument("--spread", action="store_true", help="that is the first one's, and each has one of its own")
    parser.add_argument("--endpoint-port", type=int, default=5000, help="of the endpoint of every such app")
    parser.add_argument("--bookmarks-every", type=float, default=60.0, help="seconds")
    parser.add_argument("manifests", nargs="*", type=Path, help="YAML files to begin with")
    return parser.parse_args()


async def serve(options: argparse.Namespace) -> None:
    account = ServiceAccount(options.namespace, options.account)
    rights = None
    if options.rights:
        rights = Rights.from_manifests(yaml.safe_load_all(options.rights.read_text()), account)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = FakeApiServer(
        tls=options.tls,
        rights=rights,
        account=account,
        bookmarks_every=options.bookmarks_every,
        port=options.port,
    )
    server.load(
        options.apps,
        address=options.address,
        port=options.endpoint_port,
        certificates=options.certificates,
        rsa=options.rsa,
        spread=options.spread,
    )
    for path in options.manifests:
        for document in filter(None, yaml.safe_load_all(path.read_text())):
            server.put(document)
    async with server, ControlPort(server, options.control_port) as control:
        if options.kubeconfig:
            server.kubeconfig(options.kubeconfig)
        start = {
            "event": "listening",
            "url": server.url,
            "control": f"http://127.0.0.1:{control.port}",
            "pid": os.getpid(),
        }
        print(json.dumps(start), flush=True)
        await ended.wait()


if __name__ == "__main__":
    uvloop.run(serve(arguments()))
