"""Who the one client is: its ServiceAccount, token and rights, and the files that tell a client where and who.

Refusing is decided here, too: 401 without the token that is good now, 403 without a right.
"""

from __future__ import annotations

import base64
import os
import secrets
import ssl
from pathlib import Path

import yaml

from examples.authority import Authority
from tests.fakes.apiserver.calls import Call
from tests.fakes.apiserver.refusals import Refused, forbidden
from tests.fakes.apiserver.rights import Rights, ServiceAccount

__all__ = ["Credentials"]


class Credentials:
    """Of one server and its one client. Without ``rights`` everything is allowed; without ``tls`` there is no trust."""

    def __init__(self, account: ServiceAccount, rights: Rights | None, *, tls: bool) -> None:
        self.account = account
        self.rights = rights
        self.token = secrets.token_urlsafe()
        self._authority = Authority("Fake Kubernetes authority") if tls else None
        self._token_files: set[Path] = set()

    @property
    def authority(self) -> bytes | None:
        """What clients have to trust, PEM; None without TLS."""
        return self._authority.certificate if self._authority else None

    def tls_context(self) -> ssl.SSLContext | None:
        """What the server listens with."""
        if self._authority is None:
            return None
        pair = self._authority.issue("127.0.0.1", "localhost", "kubernetes.default.svc")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        file = os.memfd_create("pair")  # OpenSSL reads pairs from files only; this one is never on a disk
        try:
            os.write(file, pair.key + pair.chain)
            context.load_cert_chain(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        return context

    def authenticate(self, authorization: str) -> None:
        """
        Raises:
            Refused: 401, ``authorization`` is not the token that is good now.
        """
        if not secrets.compare_digest(authorization.encode(), f"Bearer {self.token}".encode()):
            raise Refused(401, "Unauthorized")

    def authorize(self, call: Call, verb: str = "") -> None:
        """Whether ``call`` may be carried out; ``verb`` in place of its own.

        Raises:
            Refused: 403.
        """
        verb = verb or call.verb
        # The name in the body of a creation is not known yet when rights are judged.
        name = "" if verb == "create" else call.name
        kind = call.kind
        if self.rights is not None and not self.rights.allow(verb, kind.group, call.resource, call.namespace, name):
            raise forbidden(self.account.user, verb, kind, call.namespace, name, call.resource)

    def rotate(self) -> None:
        """From now on only a new token is good."""
        self.token = secrets.token_urlsafe()

    def write_token(self) -> None:
        """Write the token that is good now into every token file that was handed out."""
        for path in self._token_files:
            _write_private(path, self.token)

    def kubeconfig(self, url: str, path: Path) -> None:
        """Write a kubeconfig for a server at ``url``; its token stands in a file beside it, ``NAME.token``."""
        token = path.with_name(path.name + ".token")
        self._token_files.add(token)
        self.write_token()
        cluster = {"server": url}
        if self.authority is not None:
            cluster["certificate-authority-data"] = base64.b64encode(self.authority).decode()
        context = {"cluster": "fake", "user": "router", "namespace": self.account.namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": cluster}],
            "users": [{"name": "router", "user": {"tokenFile": str(token)}}],
            "contexts": [{"name": "fake", "context": context}],
        }
        _write_private(path, yaml.safe_dump(config))

    def service_account(self, directory: Path) -> None:
        """Write ``token``, ``ca.crt`` and ``namespace`` as a pod finds them."""
        self._token_files.add(directory / "token")
        self.write_token()
        (directory / "ca.crt").write_bytes(self.authority or b"")
        (directory / "namespace").write_text(self.account.namespace)


def _write_private(path: Path, text: str) -> None:
    """Replace a file as Kubernetes replaces projected tokens: whole, and never readable by others."""
    fresh = path.with_name(path.name + ".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
