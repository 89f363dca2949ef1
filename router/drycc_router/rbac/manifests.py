"""``drycc-router rbac``: the least rights for these settings, or for exactly what Services name right now, as YAML.

What must not enter: which rights those are (``rbac.rules``), printing and exit statuses (``cli``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from drycc_router.kubernetes.client import Api
from drycc_router.kubernetes.resources import SERVICES
from drycc_router.model.objects import PREFIXES, Change, ObjectKey
from drycc_router.rbac.rules import Reading, grants, manifests
from drycc_router.settings import Settings
from drycc_router.sources.fingerprints import key_of, narrow
from drycc_router.sources.manifests import ManifestTree
from drycc_router.translate.platform import OwnNames
from drycc_router.translate.references import wishes

__all__ = ["as_yaml", "named_by_services"]


def as_yaml(settings: Settings, chosen: Reading, account: str) -> str:
    """Roles and bindings, ready for ``kubectl apply``."""
    own = OwnNames.of(settings.name, settings.namespace)
    documents = manifests(grants(own, settings.watch_namespaces, chosen), account, own.namespace)
    return yaml.dump_all(documents, sort_keys=False, Dumper=_Dumper)


def named_by_services(settings: Settings) -> set[ObjectKey]:
    """Every Secret and ConfigMap that the Services name now, where the settings say that Services are.

    Raises ApiError or CredentialsError where a cluster cannot be asked.
    """
    if settings.manifests is not None:
        return _named(_services_on_disk(settings.manifests))
    return asyncio.run(_named_in_cluster(settings))


def _services_on_disk(directory: Path) -> list[Change]:
    tree = ManifestTree(directory, still=0, settle=0)
    tree.sweep()
    return [change for change in tree.settle().changes if change.key.kind == "Service"]


async def _named_in_cluster(settings: Settings) -> set[ObjectKey]:
    api = await Api.connect(settings.kubeconfig)
    found = []
    keep = narrow(SERVICES.kind)
    try:
        for place in settings.watch_namespaces or (None,):
            for prefix in PREFIXES:
                async for page in api.pages(SERVICES, place, labels=f"{prefix}routable"):
                    for raw in page.items:
                        key = key_of(SERVICES.kind, raw)
                        if key is not None:
                            found.append(Change(key, keep(raw)))
    finally:
        await api.close()
    return _named(found)


def _named(services: Iterable[Change]) -> set[ObjectKey]:
    chains = [wishes(change.key, change.object) for change in services if change.object is not None]
    return {key for chain in chains for wish in chain for key in wish}


class _Dumper(yaml.SafeDumper):
    """Writes the same list twice instead of pointing back to it, for people read this."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
