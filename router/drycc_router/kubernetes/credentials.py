"""Who we are to an API server: a kubeconfig with all its ways to log in, or what Kubernetes puts into a Pod.

``kubernetes_asyncio`` knows how to read both. But to import any part of it is to import all of it: 1,500 modules of
models and APIs, of which nothing here uses one, and which take half of the time and memory of everything we import
(:func:`_imported`). So with ``urllib3``, of which it uses one function that nobody calls here.

What must not enter: requests, TLS contexts, and any text with a token or a key in it.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from drycc_router.kubernetes.errors import CredentialsError

if TYPE_CHECKING:
    from kubernetes_asyncio.client.configuration import Configuration
    from kubernetes_asyncio.config import ConfigException
else:
    Configuration = Any

__all__ = ["ConfigException", "Configuration", "read"]

_PACKAGE: Final = "kubernetes_asyncio"
_CLIENT: Final = f"{_PACKAGE}.client"
_HTTP: Final = "urllib3"


def _imported() -> tuple[Any, Any]:
    """``kubernetes_asyncio.client.configuration`` and ``kubernetes_asyncio.config``, and little else of that package.

    While they are imported, two empty packages stand where the large ones would; afterwards whoever imports those gets
    the real ones. Where that does not work with the version that is installed, everything is imported, as usual.
    """
    if _PACKAGE not in sys.modules:
        try:
            return _imported_alone()
        except (ImportError, AttributeError):
            for name in [name for name in sys.modules if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]:
                del sys.modules[name]
    return importlib.import_module(f"{_CLIENT}.configuration"), importlib.import_module(f"{_PACKAGE}.config")


def _imported_alone() -> tuple[Any, Any]:
    """Raises ImportError or AttributeError when the package is not made as it was."""
    found = find_spec(_PACKAGE)
    if found is None or found.submodule_search_locations is None:
        raise ImportError(_PACKAGE)
    places = list(found.submodule_search_locations)
    package, client = ModuleType(_PACKAGE), ModuleType(_CLIENT)
    package.__path__ = places
    client.__path__ = [f"{place}/client" for place in places]
    sys.modules[_PACKAGE], sys.modules[_CLIENT] = package, client
    http = sys.modules.setdefault(_HTTP, _used_later(_HTTP))
    try:
        configuration = importlib.import_module(f"{_CLIENT}.configuration")
        client.Configuration = configuration.Configuration  # type: ignore[attr-defined]  # made here
        client.ApiClient = object  # type: ignore[attr-defined]  # named in signatures of what is not used here
        return configuration, importlib.import_module(f"{_PACKAGE}.config")
    finally:
        del sys.modules[_PACKAGE], sys.modules[_CLIENT]
        if http.__spec__ is None:  # ours
            del sys.modules[_HTTP]


def _used_later(name: str) -> ModuleType:
    """What stands for a module until something in it is used."""
    module = ModuleType(name)
    module.__getattr__ = lambda attribute: getattr(importlib.import_module(name), attribute)  # type: ignore[method-assign]  # PEP 562
    return module


_configuration, _config = _imported()
if not TYPE_CHECKING:
    ConfigException = _config.ConfigException


async def read(kubeconfig: Path | None) -> Configuration:
    """Read a kubeconfig, or (None) what Kubernetes puts into a Pod.

    Raises:
        CredentialsError: it cannot be read, or does not say where the server is.
    """
    configuration: Configuration = _configuration.Configuration()
    where = "the Pod's service account" if kubeconfig is None else str(kubeconfig)
    try:
        if kubeconfig is None:
            _config.load_incluster_config(configuration)
        else:
            await _config.load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        why = str(error) if isinstance(error, ConfigException | OSError) else type(error).__name__
        raise CredentialsError(f"{where}: expected credentials for an API server ({why})") from error
    except Exception as error:  # yaml.YAMLError, and whatever a log-in plugin raises: its words may hold anything
        raise CredentialsError(f"{where}: expected credentials for an API server ({type(error).__name__})") from error
    if not configuration.host:
        raise CredentialsError(f"{kubeconfig}: expected a cluster with a server")
    return configuration
