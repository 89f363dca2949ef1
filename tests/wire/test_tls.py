"""TLS and clear text are two doors to the same house."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from drycc_tls.certificate import Certificate
from drycc_tls.secret import read_pair
from examples.authority import Authority
from tests.fakes.handshakes import trusting
from tests.fakes.process import manifest, router, running, secret
from tests.fakes.wired import HOST, Reached, Standing, head_of, installed, on_loop, standing
from tests.wire.test_bodies import BODY, DIGEST, digests, read_body, uploads

AUTHORITY = Authority()
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def pair(name: str = "shop.example") -> Certificate:
    """A certificate of the program."""
    return read_pair(AUTHORITY.issue(name).secret_data())


@pytest.fixture(scope="module")
def program() -> Iterator[Standing]:
    """Its two names have a certificate each; ``shop.example`` redirects to https, and says so for a minute."""
    beside = {"other": {"certificates": "other.example:other"}}
    hsts = {"ssl.enforce": "true", "ssl.hsts.enabled": "true", "ssl.hsts.maxAge": "60"}
    with standing(secret("shop/other-cert", pair("other.example")), pair=pair(), beside=beside, **hsts) as running:
        yield running


async def shows(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that answers with the head it heard."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))
        await writer.drain()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_app_hears_that_its_client_came_over_tls(program: Standing, version: ssl.TLSVersion) -> None:
    async def story() -> None:
        async with program.serves(shows) as router:
            async with router.caller(trusting(AUTHORITY, version)) as caller:
                await caller.asks(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
                head = await caller.head()
                heard = head_of(await caller.reader.readexactly(int(head_of(head)[b"content-length"])))
                assert (heard[b"x-forwarded-proto"], heard[b"x-forwarded-port"]) == (b"https", b"443")
                assert head_of(head)[b"strict-transport-security"] == b"max-age=60"
            async with router.caller() as caller:
                await caller.asks(b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n")
                assert head_of(await caller.head())[b"location"] == b"https://shop.example/x"

    on_loop(story())


@pytest.mark.parametrize("version", VERSIONS)
def test_twenty_mebibytes_up_over_tls_and_on(version: ssl.TLSVersion) -> None:
    async def story() -> None:
        async with installed(digests, pair=pair()) as router, router.caller(trusting(AUTHORITY, version)) as caller:
            assert await uploads(caller, chunked=False) == DIGEST
            for size in (0, 1, 20_000, 100_000, 300_000):
                request = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size
                await caller.asks(request + BODY[:size])
                assert await caller.answer() == hashlib.sha256(BODY[:size]).hexdigest().encode()

    on_loop(story())


def test_a_body_in_several_records_to_an_app_that_must_be_dialled(program: Standing) -> None:
    """The router stops to read while it connects, but the records of one read are there already."""
    connects = "router_upstream_connects_total"

    async def digests_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await read_body(reader, await reader.readuntil(b"\r\n\r\n"))
        answer = hashlib.sha256(body).hexdigest().encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))

    async def story() -> None:
        before = await program.metric(connects)
        async with program.serves(digests_once) as router:
            for _ in range(3):
                async with router.caller(trusting(AUTHORITY)) as caller:
                    for _ in range(2):
                        body = BODY[:50_000]
                        caller.writer.write(
                            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body
                        )
                        assert await caller.answer() == hashlib.sha256(body).hexdigest().encode()
        assert await program.metric(connects) == before + 6

    on_loop(story())


def test_a_connection_for_one_name_does_not_serve_another(program: Standing) -> None:
    asks = b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n"

    async def story() -> None:
        async with program.serves(shows) as router:
            async with router.caller(trusting(AUTHORITY)) as caller:
                await caller.asks(asks)
                assert b"X-Router-Error: misdirected\r\n" in await caller.head()
            async with router.caller(trusting(AUTHORITY), "other.example") as caller:
                await caller.asks(asks)
                assert (await caller.answer()).startswith(asks[:-2])

    on_loop(story())


def test_half_an_answer_over_tls_is_not_followed_by_a_goodbye() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await writer.drain()

    async def story() -> None:
        async with installed(half, pair=pair()) as router, router.caller(trusting(AUTHORITY)) as caller:
            await caller.asks(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
            with pytest.raises((ConnectionResetError, ssl.SSLError)):
                await caller.rest()
                await caller.rest()

    on_loop(story())


def test_clear_text_on_the_port_for_tls_and_the_other_way_round(program: Standing) -> None:
    failures = "router_tls_handshake_failures_total"
    labels = 'app="_other",code="400",method="other",namespace="",protocol="http/1.1",service=""'
    bad = f"router_requests_total{{{labels}}}"

    async def story() -> None:
        assert program.https
        router = Reached(program.https, program.http)
        before = await program.metric(failures), await program.metric(bad)
        async with router.caller() as caller:
            await caller.asks(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            said = await caller.rest()
            assert said.startswith(b"HTTP/1.1 400 ")
            assert b"X-Router-Error: plain_http\r\n" in said
        with pytest.raises(ssl.SSLError):
            async with router.caller(trusting(AUTHORITY)):
                pass
        await program.until_metric(failures, before[0] + 1)
        await program.until_metric(bad, before[1] + 2)  # one at each port

    on_loop(story())


def test_a_wildcard_s_certificate_is_not_presented_for_a_name_of_another_namespace(tmp_path: Path) -> None:
    """The whole program: the operator gave a name below one namespace's wildcard to another namespace."""
    pair = read_pair(AUTHORITY.issue("*.big.example").secret_data())
    given = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": "drycc", "name": "drycc-router-claims"},
        "data": {"given": "*.big.example shop\nx.big.example blog"},
    }
    (tmp_path / "given.yaml").write_text(json.dumps(given))
    (tmp_path / "pair.yaml").write_text(secret("shop/star", pair))
    with running("app") as app:
        wild = {"domains": "*.big.example", "certificates": "*.big.example:star"}
        (tmp_path / "shop.yaml").write_text(manifest("shop/web", app, **wild))
        (tmp_path / "blog.yaml").write_text(manifest("blog/web", app, domains="x.big.example"))
        with router(tmp_path, "--workers", "1") as child:
            assert child.get(host="x.big.example") == (200, "app")
            stranger, own = child.certificate("x.big.example"), child.certificate("y.big.example")
            assert own.strip() in pair.chain_pem.decode()
            assert stranger == child.certificate("unknown.example"), "the default one"
