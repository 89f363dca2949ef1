"""How the library is imported that reads credentials; what is read with it is in ``test_client``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from drycc_router.kubernetes import credentials
from drycc_router.kubernetes.errors import CredentialsError


def python(program: str) -> str:
    """Run it in a Python of its own; what it prints."""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def test_none_of_the_librarys_models_is_imported() -> None:
    said = python(
        "import sys, drycc_router.kubernetes.credentials\n"
        "print(*(name for name in sys.modules if name.startswith('kubernetes_asyncio.client')))"
    )
    assert sorted(said.split()) == ["kubernetes_asyncio.client.configuration", "kubernetes_asyncio.client.exceptions"]


def test_what_the_library_needs_for_one_function_is_imported_when_that_is_called() -> None:
    said = python(
        "import sys, drycc_router.kubernetes.credentials as ours\n"
        "print('urllib3' in sys.modules)\n"
        "configuration = ours._configuration.Configuration()\n"
        "configuration.username, configuration.password = 'a', 'b'\n"
        "print(configuration.get_basic_auth_token(), 'urllib3' in sys.modules)"
    )
    assert said.split() == ["False", "Basic", "YTpi", "True"]


def test_who_wants_all_of_it_gets_it_afterwards() -> None:
    said = python(
        "import drycc_router.kubernetes.credentials as ours, kubernetes_asyncio as all\n"
        "print(all.client.Configuration is ours._configuration.Configuration, all.client.V1Service.__name__,\n"
        "      all.config.ConfigException is ours.ConfigException, all.client.ApiClient.__name__)"
    )
    assert said == "True V1Service True ApiClient"


def test_a_library_that_is_made_otherwise_is_imported_whole() -> None:
    said = python(
        "import importlib, sys\n"
        "real = importlib.import_module\n"
        "def other(name, *package):\n"
        "    if name == 'kubernetes_asyncio.config' and not hasattr(sys.modules['kubernetes_asyncio'], '__file__'):\n"
        "        raise ImportError('it needs its models here')\n"
        "    return real(name, *package)\n"
        "importlib.import_module = other\n"
        "import drycc_router.kubernetes.credentials as ours\n"
        "import kubernetes_asyncio\n"
        "print(kubernetes_asyncio.client.Configuration is ours._configuration.Configuration)"
    )
    assert said == "True"


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    nothing = tmp_path / "kubeconfig"
    with pytest.raises(CredentialsError, match=f"{nothing}: expected credentials for an API server"):
        asyncio.run(credentials.read(nothing))
    nothing.write_text("a: [")
    with pytest.raises(CredentialsError, match=f"{nothing}: expected credentials for an API server"):
        asyncio.run(credentials.read(nothing))
