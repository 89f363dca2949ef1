"""The conversation that the fake is compared with, held with the real server: it is what the repository says it is."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from contextlib import AbstractAsyncContextManager

import pytest

from tests.conformance import building, session
from tests.conformance.cluster import Cluster
from tests.conformance.crowd import crowd

pytestmark = pytest.mark.timeout(300)


def _server(cluster: Cluster) -> session.Server:
    async def grant() -> None:
        for document in session.RIGHTS:
            cluster.apply(document)

    async def compact() -> None:
        """In etcd; and the watch cache, which remembers more, ends with the process."""
        cluster.compact()
        cluster.stop()
        cluster.start()
        cluster.until(lambda: cluster.ask("GET", holds, token=token)[0] == 200)

    def crowded() -> AbstractAsyncContextManager[None]:
        return crowd(cluster, f"system:serviceaccount:{session.NAMESPACE}:session", token, holds)

    trust = ssl.create_default_context(cadata=cluster.authority.certificate.decode())
    token = cluster.token(session.NAMESPACE, "session")
    holds = f"/api/v1/namespaces/{session.NAMESPACE}/configmaps"
    return session.Server(cluster.url, token, grant, compact, crowded, trust)


def test_the_recorded_session_is_what_the_real_server_says(cluster: Cluster) -> None:
    cluster.namespace(session.NAMESPACE)
    metadata = {"name": "session", "namespace": session.NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    steps = asyncio.run(session.play(_server(cluster)))
    if os.environ[building.ASKED] == "record":
        document = {"server": f"kube-apiserver {building.VERSION}", "steps": steps}
        session.RECORDED.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert steps == session.recorded(), "write it anew with `make conformance ARGS=--record`, and mend the fake"
