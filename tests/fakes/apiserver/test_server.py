"""The fake over HTTP: lists, watches, writes and refusals as a client of the real server would see them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from tests.fakes.apiserver.client import SERVICES, SLICES, Client
from tests.fakes.apiserver.objects import config_map, endpoint_slice, secret, service
from tests.fakes.apiserver.rights import Rights, Rule
from tests.fakes.apiserver.server import FakeApiServer

Tell = Callable[[FakeApiServer, Client], Awaitable[None]]
CLAIMS = "/api/v1/namespaces/drycc/configmaps/claims"
MERGE = {"Content-Type": "application/merge-patch+json"}


def story(tell: Tell, **options: Any) -> None:
    """Tell a story about one server and one client, on the loop the router uses."""

    async def run() -> None:
        async with asyncio.timeout(20), FakeApiServer(**options) as server, Client(server) as client:
            await tell(server, client)

    uvloop.run(run())


# Lists


def test_a_list_is_a_state_at_a_version_and_its_items_do_not_name_their_kind() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.put(service("shop", "web", domains="shop.example"))
        server.put(service("blog", "web"))

        document = await client.listed()

        assert (document["kind"], document["apiVersion"]) == ("ServiceList", "v1")
        assert document["metadata"] == {"resourceVersion": str(server.store.version)}
        assert [item["metadata"]["namespace"] for item in document["items"]] == ["blog", "shop"]
        assert "kind" not in document["items"][0]

    story(tell)


def test_lists_are_narrowed_by_namespace_labels_and_fields() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.put(service("shop", "web"))
        server.put(service("shop", "db", routable=False))
        server.put(service("blog", "web"))

        assert await client.names("/api/v1/namespaces/shop/services") == ["db", "web"]
        assert await client.names(labelSelector="router.drycc.cc/routable=true,app in (web)") == ["web", "web"]
        assert await client.names(labelSelector="!router.drycc.cc/routable") == ["db"]
        assert await client.names(fieldSelector="metadata.namespace=blog,metadata.name=web") == ["web"]

    story(tell)


def test_a_long_list_comes_in_pages_of_one_state() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.load(5)

        first = await client.listed(limit="2")
        server.put(service("zoo", "late"))
        pages = [first]
        while token := pages[-1]["metadata"].get("continue"):
            pages.append(await client.listed(limit="2", **{"continue": token}))

        names = [[item["metadata"]["name"] for item in page["items"]] for page in pages]
        assert names == [["app-00000", "app-00001"], ["app-00002", "app-00003"], ["app-00004"]]
        assert {page["metadata"]["resourceVersion"] for page in pages} == {first["metadata"]["resourceVersion"]}
        assert [page["metadata"].get("remainingItemCount") for page in pages] == [3, 1, None]

    story(tell)


def test_a_page_token_that_expired_is_410_with_a_token_to_go_on_from_where_one_was() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.load(3)
        first = await client.listed(limit="2")
        server.put(service("zoo", "late"))
        server.expire_continue()

        status, refusal = await client.ask("GET", SERVICES, params={"continue": first["metadata"]["continue"]})
        assert (status, refusal["reason"], refusal["code"]) == (410, "Expired", 410)

        rest = await client.names(**{"continue": refusal["metadata"]["continue"]})
        assert rest == ["app-00002", "late"]

    story(tell)


def test_version_zero_is_answered_whole_and_a_version_to_come_is_not_answered() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.load(3)

        assert len(await client.names(resourceVersion="0", limit="1")) == 3
        status, refusal = await client.ask("GET", SERVICES, params={"resourceVersion": "1000000"})
        assert (status, refusal["reason"], refusal["details"]["retryAfterSeconds"]) == (504, "Timeout", 1)

    story(tell)


def test_long_answers_are_compressed_for_who_can_take_it() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.load(500)

        async with client.answer() as compressed:
            assert compressed.headers["Content-Encoding"] == "gzip"
            items = json.loads(await compressed.read())["items"]
        async with client.answer(headers={"Accept-Encoding": "identity"}) as plain:
            assert "Content-Encoding" not in plain.headers
            assert json.loads(await plain.read())["items"] == items

    story(tell)


# Watches


def test_a_watch_from_the_version_of_a_list_misses_nothing_and_repeats_nothing() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.put(service("shop", "web"))
        version = (await client.listed())["metadata"]["resourceVersion"]
        server.put(service("shop", "between"))
        server.put(endpoint_slice("shop", "web", ["10.0.0.1"]))

        async with client.watch(resourceVersion=version) as watch:
            assert await watch.told() == ("ADDED", "between")
            server.put(service("shop", "web", domains="shop.example"))
            assert await watch.told() == ("MODIFIED", "web")
            server.remove(service("shop", "between"))
            event = await watch.event()
            assert (event["type"], event["object"]["kind"]) == ("DELETED", "Service")
            assert event["object"]["metadata"]["resourceVersion"] == str(server.store.version)

    story(tell)


def test_a_watch_without_a_version_begins_with_everything_there_is() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.put(service("shop", "web"))
        server.put(service("blog", "web", routable=False))
        server.put(service("blog", "api"))

        async with client.watch(labelSelector="router.drycc.cc/routable=true") as watch:
            assert [await watch.told(), await watch.told()] == [("ADDED", "api"), ("ADDED", "web")]
            server.put(service("blog", "web"))
            assert await watch.told() == ("ADDED", "web"), "it begins to match"
            server.put(service("blog", "api", routable=False))
            assert await watch.told() == ("DELETED", "api"), "it ceases to match"

    story(tell)


def test_one_secret_is_watched_by_its_name() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        path = "/api/v1/namespaces/shop/secrets"
        async with client.watch(path, fieldSelector="metadata.name=web-cert") as watch:
            server.put(secret("shop", "other", {"tls.key": b"1"}))
            server.put(secret("shop", "web-cert", {"tls.key": b"2"}))
            assert await watch.told() == ("ADDED", "web-cert")

    story(tell)


def test_streaming_a_list_ends_with_a_marked_bookmark() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.put(service("shop", "web"))
        ask = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}

        async with client.watch(**ask) as watch:
            assert await watch.told() == ("ADDED", "web")
            mark = await watch.event()

        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert mark["object"]["metadata"]["resourceVersion"] == str(server.store.version)

    story(tell)


def test_bookmarks_tell_the_version_to_those_who_asked_for_them() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        async with client.watch(allowWatchBookmarks="true") as asked, client.watch() as did_not:
            server.put(endpoint_slice("shop", "web", ["10.0.0.1"]))
            server.bookmark()
            server.put(service("shop", "web"))

            event = await asked.event()
            assert (event["type"], event["object"]["kind"]) == ("BOOKMARK", "Service")
            assert int(event["object"]["metadata"]["resourceVersion"]) == server.store.version - 1
            assert await asked.told() == await did_not.told() == ("ADDED", "web")

    story(tell)


def test_bookmarks_come_regularly() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        async with client.watch(allowWatchBookmarks="true") as watch:
            assert [(await watch.event())["type"] for _ in range(2)] == ["BOOKMARK", "BOOKMARK"]

    story(tell, bookmarks_every=0.05)


def test_the_server_ends_a_watch_in_order_when_its_time_is_up() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        async with client.watch(timeoutSeconds="1") as watch:
            server.put(service("shop", "web"))
            assert await watch.told() == ("ADDED", "web")
            assert await watch.rest() == b""
        assert server.open_watches() == 0

    story(tell)


def test_a_bookmark_comes_before_the_end_of_a_watch() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        async with client.watch(timeoutSeconds="3", allowWatchBookmarks="true") as watch:
            assert (await watch.event())["type"] == "BOOKMARK"
            assert await watch.rest() == b""

    story(tell)


def test_a_version_whose_past_is_gone_is_410_as_an_event_or_as_a_status() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        version = str(server.put(service("shop", "web")).version)
        server.put(service("shop", "api"))
        server.compact()

        async with client.watch(resourceVersion=version) as watch:
            event = await watch.event()
            assert event["type"] == "ERROR"
            assert (event["object"]["kind"], event["object"]["code"]) == ("Status", 410)
            assert await watch.rest() == b""

        server.answer_gone_as("status")
        status, refusal = await client.ask("GET", SERVICES, params={"watch": "1", "resourceVersion": version})
        assert (status, refusal["reason"]) == (410, "Expired")

    story(tell)


def test_a_watch_is_forgotten_with_its_client() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        async with client.watch(), client.watch(SLICES):
            assert (server.open_watches(), server.open_watches("services")) == (2, 1)
        await server.watches_are(0)

    story(tell)


# Writes


def test_a_map_of_claims_is_created_updated_and_deleted() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.load(0)
        server.put(service("drycc", "drycc-builder"))
        claims = config_map("drycc", "claims", {"a.example": "shop"})

        status, created = await client.ask("POST", "/api/v1/namespaces/drycc/configmaps", json=claims)
        assert status == 201
        assert created["metadata"]["uid"]
        assert await client.ask("GET", CLAIMS) == (200, created)

        created["data"]["b.example"] = "blog"
        status, updated = await client.ask("PUT", CLAIMS, json=created)
        assert (status, updated["data"]["b.example"]) == (200, "blog")

        status, refusal = await client.ask("PUT", CLAIMS, json=created)
        assert (status, refusal["reason"]) == (409, "Conflict")

        status, done = await client.ask("DELETE", CLAIMS)
        assert (status, done["status"]) == (200, "Success")
        assert (await client.ask("GET", CLAIMS))[0] == 404

    story(tell)


def test_a_patch_merges_and_respects_a_version() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        version = server.put(config_map("drycc", "claims", {"a": "1", "b": "2"})).version

        status, patched = await client.ask("PATCH", CLAIMS, data='{"data":{"a":null,"c":"3"}}', headers=MERGE)
        assert (status, patched["data"]) == (200, {"b": "2", "c": "3"})

        stale = json.dumps({"metadata": {"resourceVersion": str(version)}, "data": {"b": "9"}})
        assert (await client.ask("PATCH", CLAIMS, data=stale, headers=MERGE))[0] == 409

    story(tell)


def test_applying_creates_what_is_not_there_and_wants_a_manager() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.put(service("drycc", "drycc-builder"))
        apply = {"headers": {"Content-Type": "application/apply-patch+yaml"}, "data": "data: {a: '1'}"}

        assert (await client.ask("PATCH", CLAIMS, **apply))[0] == 422
        status, created = await client.ask("PATCH", CLAIMS + "?fieldManager=router", **apply)
        assert (status, created["data"], created["kind"]) == (201, {"a": "1"}, "ConfigMap")
        assert (await client.ask("PATCH", CLAIMS + "?fieldManager=router", **apply))[0] == 200

    story(tell)


def test_the_server_names_what_only_says_how_its_name_begins() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.put(service("drycc", "drycc-builder"))
        body = {"metadata": {"generateName": "claims-"}}

        _, one = await client.ask("POST", "/api/v1/namespaces/drycc/configmaps", json=body)
        _, two = await client.ask("POST", "/api/v1/namespaces/drycc/configmaps", json=body)

        assert one["metadata"]["name"].startswith("claims-")
        assert one["metadata"]["name"] != two["metadata"]["name"]

    story(tell)


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        ("{", {}, 400),
        ("[]", {}, 400),
        ('{"kind":"Secret"}', {}, 400),
        ('{"metadata":{"namespace":"shop","name":"x"}}', {}, 400),
        ('{"metadata":{}}', {}, 422),
        ('{"metadata":{"name":"x","resourceVersion":"1"}}', {}, 500),
        ("{}", {"Content-Type": "text/plain"}, 415),
        ("{}", {"Content-Type": "application/vnd.kubernetes.protobuf"}, 415),
        ('{"metadata":{"name":"x"}}', {"Accept": "text/html"}, 406),
        ('{"metadata":{"name":"x"}}', {"Accept": "application/vnd.kubernetes.protobuf"}, 406),
        ('{"metadata":{"name":"x"}}', {"Accept": "application/vnd.kubernetes.protobuf, application/json"}, 201),
    ],
)
def test_what_cannot_be_taken_is_refused(body: str, headers: dict[str, str], code: int) -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.put(service("drycc", "drycc-builder"))
        sent = {"Content-Type": "application/json", **headers}
        status, answer = await client.ask("POST", "/api/v1/namespaces/drycc/configmaps", data=body, headers=sent)
        assert status == code, answer
        assert code < 400 or (answer["kind"], answer["code"]) == ("Status", code)

    story(tell)


def test_a_namespace_is_an_object_too() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        assert (await client.ask("POST", "/api/v1/namespaces", json={"metadata": {"name": "shop"}}))[0] == 201
        server.put(service("shop", "web"))
        assert (await client.ask("GET", "/api/v1/namespaces/shop"))[0] == 200

        assert (await client.ask("DELETE", "/api/v1/namespaces/shop"))[0] == 200

        assert await client.names() == []
        assert (await client.ask("GET", "/api/v1/namespaces/shop"))[0] == 404

    story(tell)


# Who may


def test_without_the_token_nothing_is_answered_and_a_rotated_one_is_no_token() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        async with Client(server, token="wrong") as stranger:
            status, refusal = await stranger.ask("GET", SERVICES)
            assert (status, refusal["reason"]) == (401, "Unauthorized")
        server.rotate_token()
        assert (await client.ask("GET", SERVICES))[0] == 401
        async with Client(server) as renewed:
            assert await renewed.names() == []

    story(tell)


def test_with_rights_given_everything_else_is_forbidden() -> None:
    rule = Rule(frozenset({"list", "watch"}), frozenset({""}), frozenset({"services"}))

    async def tell(server: FakeApiServer, client: Client) -> None:
        assert await client.names() == []
        status, refusal = await client.ask("GET", "/api/v1/namespaces/shop/secrets/web-cert")
        assert (status, refusal["reason"]) == (403, "Forbidden")
        assert refusal["message"] == (
            'secrets "web-cert" is forbidden: User "system:serviceaccount:drycc:drycc-router" cannot get '
            'resource "secrets" in API group "" in the namespace "shop"'
        )

    story(tell, rights=Rights((rule,)))


def test_the_audit_knows_who_read_what_and_which_secrets_were_foreign() -> None:
    async def tell(server: FakeApiServer, client: Client) -> None:
        server.put(secret("shop", "web-cert", {"tls.key": b"a"}))
        server.put(secret("shop", "password", {"password": b"b"}))
        secrets = "/api/v1/namespaces/shop/secrets"
        await client.ask("GET", f"{secrets}/web-cert")
        async with client.watch(secrets, fieldSelector="metadata.name=web-cert"):
            pass
        allowed = {("shop", "web-cert")}
        assert server.audit.foreign_secret_reads(allowed) == []

        await client.ask("GET", f"{secrets}/password")
        await client.ask("GET", f"{secrets}/absent")
        await client.listed(secrets)
        await client.listed("/api/v1/secrets", fieldSelector="metadata.name=web-cert")

        foreign = server.audit.foreign_secret_reads(allowed)
        assert [(record.verb, record.namespace, record.name) for record in foreign] == [
            ("get", "shop", "password"),
            ("list", "shop", ""),
            ("list", "", "web-cert"),
        ]
        assert foreign[0].user_agent == "the-test"
        assert [record.code for record in server.audit.of("get", "secrets")] == [200, 200, 404]

    story(tell)
