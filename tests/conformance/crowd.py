"""A cluster that has no room for one user: priority and fairness answers its requests with 429.

Its priority level has no seat, so only one of its requests at a time is carried out; that one is a list from a version
that has not been yet, for which the server waits three seconds. In the moment between two of these another one passes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.conformance.cluster import Cluster, Document

__all__ = ["crowd"]

_FUTURE = {"resourceVersion": "999999999", "resourceVersionMatch": "NotOlderThan"}
_API_VERSION = "flowcontrol.apiserver.k8s.io/v1"


@asynccontextmanager
async def crowd(cluster: Cluster, user: str, token: str, path: str) -> AsyncIterator[None]:
    """``path``: what the user may list, with ``token``. As soon as the server has heard of it there is no room."""
    documents = no_room_for(user)
    for document in documents:
        cluster.apply(document)
    holders = [asyncio.create_task(_hold(cluster, token, path)) for _ in range(2)]
    try:
        yield
    finally:
        for holder in holders:
            holder.cancel()
        await asyncio.wait(holders)
        for document in reversed(documents):
            cluster.remove(document)


async def _hold(cluster: Cluster, token: str, path: str) -> None:
    """Have the one place there is, again and again."""
    trust = ssl.create_default_context(cadata=cluster.authority.certificate.decode())
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        while True:
            async with session.get(cluster.url + path, params=_FUTURE, ssl=trust) as answer:
                await answer.read()
            if answer.status == 429:
                await asyncio.sleep(0.005)  # somebody else has it


def no_room_for(user: str) -> list[Document]:
    """Priority and fairness that refuses everything a user asks, with 429."""
    api_version = "flowcontrol.apiserver.k8s.io/v1"
    limited = {
        "nominalConcurrencyShares": 0,
        "lendablePercent": 0,
        "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Reject"},
    }
    everything = {
        "resourceRules": [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
        ],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "subjects": [{"kind": "User", "user": {"name": user}}],
    }
    name = user.replace(":", "-")
    return [
        {
            "apiVersion": api_version,
            "kind": "PriorityLevelConfiguration",
            "metadata": {"name": name},
            "spec": {"type": "Limited", "limited": limited},
        },
        {
            "apiVersion": api_version,
            "kind": "FlowSchema",
            "metadata": {"name": name},
            "spec": {
                "matchingPrecedence": 5,
                "priorityLevelConfiguration": {"name": name},
                "distinguisherMethod": {"type": "ByUser"},
                "rules": [everything],
            },
        },
    ]
