"""What objects say of themselves: whoever prints one, in a log or a debugger, prints no key and no cookie."""

from __future__ import annotations

import base64
import gc
from types import FunctionType, ModuleType

from drycc_tls.secret import read_pair
from examples.authority import Authority
from tests.fakes.kube import World, secret
from tests.fakes.story import HOST, Story

CANARY = b"c4n4ry-s3cr3t"


def ours(*roots: object) -> list[object]:
    """Every object of ours that can be reached from these."""
    found: list[object] = []
    seen: set[int] = set()
    left = list(roots)
    while left:
        thing = left.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType):
            continue
        seen.add(id(thing))
        left.extend(gc.get_referents(thing))
        if str(type(thing).__module__).split(".")[0] in ("drycc_proxy", "drycc_router", "drycc_tls"):
            found.append(thing)
    return found


def test_no_object_tells_a_secret_of_itself(story: Story) -> None:
    pair = Authority().issue("shop.example")
    town = World()
    held = secret("shop/web-cert", pair)
    town.hears(held)
    certificate = read_pair(pair.secret_data())
    story.client(
        b"POST /?token=%b HTTP/1.1\r\n%bCookie: %b\r\nAuthorization: %b\r\nContent-Length: 900\r\n\r\n%b"
        % (CANARY, HOST, CANARY, CANARY, CANARY)
    )
    story.lends().says(b"HTTP/1.1 200 OK\r\nSet-Cookie: %b\r\nContent-Length: 900\r\n\r\n%b" % (CANARY, CANARY))
    needles = (CANARY, pair.key.splitlines()[2], base64.b64encode(pair.key)[80:120])
    told = [repr(thing).encode() for thing in ours(story, town, certificate, held)]
    assert len(told) > 50
    for each in told:
        assert not any(needle in each for needle in needles), each[:60]
