"""Secrets of a cluster, and which certificate handshakes are shown: over real sockets, against the fake API server."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from drycc_router.model.problems import Reason
from examples.authority import Authority, Pair
from tests.fakes.apiserver.objects import secret
from tests.fakes.apiserver.server import FakeApiServer
from tests.fakes.clustered import Shipped, app_of, named, shipped
from tests.fakes.wired import on_loop

AUTHORITY = Authority()
HOST = "web.example"
GOOD = AUTHORITY.issue(HOST)
OTHER = AUTHORITY.issue(HOST)

Tell = Callable[[FakeApiServer, Shipped], Awaitable[None]]


def shown(pair: Pair) -> str:
    """By what a handshake knows it."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.chain.decode())).hexdigest()


def own(data: Mapping[str, bytes], namespace: str = "shop") -> dict[str, object]:
    return secret(namespace, "own-cert", data, "kubernetes.io/tls")


def plays(directory: Path, tell: Tell, data: Mapping[str, bytes] | None = None, namespace: str = "shop") -> None:
    """``web.example`` names the Secret ``own``; a neighbour has a certificate of its own, which it always presents."""
    neighbour = AUTHORITY.issue("side.example")

    async def play() -> None:
        async with named("first") as first, FakeApiServer() as server:
            for document in (
                *app_of("shop/web", first, says={"certificates": f"{HOST}:own"}),
                *app_of("next/side", first, says={"certificates": "side.example:own"}),
                own(neighbour.secret_data(), "next"),
            ):
                server.put(document)
            if data is not None:
                server.put(own(data, namespace))
            async with shipped(server, directory) as router:
                await tell(server, router)
                assert (await router.ask(HOST)).body == b"first", "clear text works whatever happens"
                assert await router.fingerprint("side.example") == shown(neighbour)

    on_loop(play())


def encrypted(pair: Pair) -> bytes:
    key = serialization.load_pem_private_key(pair.key, None)
    locked = serialization.BestAvailableEncryption(b"secret")
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)


WEAK = AUTHORITY.issue(HOST, key=rsa.generate_private_key(65537, 1024))  # noqa: S505 -- it has to be refused

BAD: dict[str, dict[str, bytes]] = {
    "garbage": {"tls.crt": b"\x00\xff", "tls.key": b"key"},
    "mismatch": {"tls.crt": GOOD.chain, "tls.key": OTHER.key},
    "encrypted key": {"tls.crt": OTHER.chain, "tls.key": encrypted(OTHER)},
    "DER": {"tls.crt": ssl.PEM_cert_to_DER_cert(OTHER.chain.decode()), "tls.key": OTHER.key},
    "other entries": {"certificate": OTHER.chain, "key": OTHER.key},
    "empty": {},
    "a megabyte": {"tls.crt": OTHER.chain * 1_500, "tls.key": OTHER.key},
    "a weak key": WEAK.secret_data(),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_a_bad_secret_keeps_what_was_presented_and_is_a_problem(tmp_path: Path, data: dict[str, bytes]) -> None:
    """Hardening C-02, lineage 3: and the next good one is presented without a restart."""

    async def tell(server: FakeApiServer, router: Shipped) -> None:
        assert await router.fingerprint(HOST) == shown(GOOD)
        server.put(own(data))
        await router.until_problem(Reason.CERTIFICATE_BAD)
        assert await router.fingerprint(HOST) == shown(GOOD)
        problems = await router.problems(Reason.CERTIFICATE_BAD)
        # The Service that names the Secret is told, too: its owner may have no right to read the Secret.
        assert {(each["kind"], each["name"]) for each in problems} == {("Secret", "own-cert"), ("Service", "web")}
        lines = OTHER.key.decode().splitlines()[1:-1]
        assert not any(line in str(problem) for line in lines for problem in problems)
        server.put(own(OTHER.secret_data()))
        await router.presents(HOST, shown(OTHER))
        await router.until_problem(Reason.CERTIFICATE_BAD, there=False)

    plays(tmp_path, tell, GOOD.secret_data())


NOW = datetime.now(UTC)
ODD: dict[str, tuple[Pair, Reason]] = {
    "expired": (AUTHORITY.issue(HOST, start=NOW - timedelta(days=20), days=10), Reason.CERTIFICATE_EXPIRED),
    "not valid yet": (AUTHORITY.issue(HOST, start=NOW + timedelta(days=5)), Reason.CERTIFICATE_NOT_YET_VALID),
    "expires soon": (AUTHORITY.issue(HOST, days=10), Reason.CERTIFICATE_EXPIRES_SOON),
    "another name": (AUTHORITY.issue("other.example"), Reason.CERTIFICATE_DOES_NOT_COVER),
}


@pytest.mark.parametrize(("pair", "reason"), ODD.values(), ids=ODD)
def test_what_clients_may_refuse_is_served_all_the_same_and_told(tmp_path: Path, pair: Pair, reason: Reason) -> None:
    """Hardening C-02, C-05 and C-07: better than nothing, and clients decide."""

    async def tell(server: FakeApiServer, router: Shipped) -> None:
        assert await router.fingerprint(HOST) == shown(pair)
        assert await router.problems(reason)
        server.put(own(GOOD.secret_data()))
        await router.presents(HOST, shown(GOOD))
        await router.until_problem(reason, there=False)

    plays(tmp_path, tell, pair.secret_data())


def test_a_secret_that_is_deleted_while_in_use_serves_on_until_nobody_names_it(tmp_path: Path) -> None:
    """Hardening C-03: a router that starts now has nothing but the default."""

    async def tell(server: FakeApiServer, router: Shipped) -> None:
        assert await router.fingerprint(HOST) == shown(GOOD)
        server.remove(own({}))
        await router.until_problem(Reason.CERTIFICATE_MISSING)
        assert await router.fingerprint(HOST) == shown(GOOD)
        async with shipped(server, tmp_path) as late:
            assert await late.fingerprint(HOST) == await late.fingerprint("unknown.example") != shown(GOOD)
        async with named("second") as second:
            for document in app_of("shop/web", second, says={"maintenance": "false"}):
                server.put(document)
            default = await router.fingerprint("unknown.example")
            await router.presents(HOST, default)
            for document in app_of("shop/web", second, says={"certificates": f"{HOST}:own"}):
                server.put(document)
            server.put(own(GOOD.secret_data()))
            await router.presents(HOST, shown(GOOD))
            second.name = "first"

    plays_until_moved(tmp_path, tell)


def plays_until_moved(directory: Path, tell: Tell) -> None:
    """As ``plays``, for a story after which nobody is behind ``web.example`` any more."""

    async def play() -> None:
        async with named("first") as first, FakeApiServer() as server:
            for document in app_of("shop/web", first, says={"certificates": f"{HOST}:own"}):
                server.put(document)
            server.put(own(GOOD.secret_data()))
            async with shipped(server, directory) as router:
                await tell(server, router)

    on_loop(play())


def test_a_secret_of_another_namespace_is_never_read(tmp_path: Path) -> None:
    """Hardening C-04 and M-05: https answers with the default certificate. The fake API server's audit looks, too."""

    async def tell(server: FakeApiServer, router: Shipped) -> None:
        default = await router.fingerprint("unknown.example")
        assert await router.fingerprint(HOST) == default
        assert await router.problems(Reason.CERTIFICATE_MISSING)
        read = {(record.namespace, record.name) for record in server.audit.of(resource="secrets") if record.code < 400}
        # Beside them there may be watches by name that tell of the platform's certificate, should it ever be there.
        assert {name for name in read if name[0] != "drycc"} == {("next", "own-cert")}
        server.put(own(GOOD.secret_data()))
        await router.presents(HOST, shown(GOOD))

    plays(tmp_path, tell, OTHER.secret_data(), namespace="vault")


def test_names_of_a_platform_are_served_by_its_certificate(tmp_path: Path) -> None:
    """Lineage 3: a short name by the platform's, a dotted one without its own by the default, which is that one too."""
    platform = AUTHORITY.issue("*.apps.example")

    async def tell(server: FakeApiServer, router: Shipped) -> None:
        server.put(secret("drycc", "drycc-router-platform-cert", platform.secret_data(), "kubernetes.io/tls"))
        await router.presents("web.apps.example", shown(platform))
        assert await router.fingerprint("unknown.example") == shown(platform)
        assert await router.fingerprint(HOST) == shown(GOOD)

    plays(tmp_path, tell, GOOD.secret_data())
