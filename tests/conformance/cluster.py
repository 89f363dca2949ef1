"""A cluster without nodes: etcd, kube-apiserver and kube-controller-manager on loopback, with RBAC and tokens.

Nothing schedules or runs Pods. Ports are held by a socket of ours that is bound and does not listen (the servers share
it), so they stay the same when a server is started again, and nobody else gets them. The audit log has one line for
each request, which is how a test knows what a router asked and was answered.
"""

from __future__ import annotations

import base64
import ctypes
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from examples.authority import Authority, Pair
from tests.conformance import building
from tests.conformance.pki import Clients, server_pair, signing_keys

__all__ = ["READY_SECONDS", "Asked", "Cluster", "Document"]

Document = dict[str, Any]

READY_SECONDS: Final = 90.0
"""That a component may take to be ready, on a machine that is busy with other things."""
LOOK_SECONDS: Final = 0.02
SERVICES: Final = "10.96.0.0/16,fd00:10:96::/112"
CONTROLLERS: Final = (
    "clusterrole-aggregation-controller,deployment-controller,endpointslice-controller,garbage-collector-controller,"
    "namespace-controller,replicaset-controller,root-ca-certificate-publisher-controller,serviceaccount-controller"
)
_PLURALS: Final = {
    "NetworkPolicy": "networkpolicies",
    "PriorityLevelConfiguration": "prioritylevelconfigurations",
}
_CLUSTER_WIDE: Final = frozenset(
    {"Namespace", "ClusterRole", "ClusterRoleBinding", "FlowSchema", "PriorityLevelConfiguration"}
)


@dataclass(frozen=True)
class Asked:
    """One request as the audit log has it."""

    user: str
    verb: str
    uri: str
    code: int


class Cluster:
    """One of each component. Everything it needs is below ``directory``. Not to be used from two threads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._binaries = building.cache()
        self._held = {name: _held() for name in ("etcd", "peer", "api", "manager")}
        self.ports = {name: bound.getsockname()[1] for name, bound in self._held.items()}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.authority = Authority("cluster")
        self._clients = Clients()
        self._write("clients.crt", self._clients.certificate)
        self._admin = self._pair("admin", self._clients.issue("admin", "system:masters"))
        manager = self._pair("manager", self._clients.issue("system:kube-controller-manager"))
        private, public = signing_keys()
        self._write("accounts.key", private)
        self._write("accounts.pub", public)
        self.present(server_pair(self.authority))
        self._write("ca.crt", self.authority.certificate)
        self._write("manager.yaml", self._kubeconfig(*manager))
        self._context = self._trusting()

    def __repr__(self) -> str:
        return f"<Cluster {self.url}>"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.ports['api']}"

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def __enter__(self) -> Self:
        try:
            self._start_etcd()
            self.start()
            self._start_manager()
            self.until(lambda: self.ask("GET", "/api/v1/namespaces/default/serviceaccounts/default")[0] == 200)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def start(self, *, wait: bool = True) -> None:
        """Start the API server, with the certificate that is to be presented now. ``wait``: until it is ready."""
        file = self.directory
        self._start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.ports['etcd']}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports['api']}",
            "--permit-port-sharing",
            f"--tls-cert-file={file / 'server.crt'}",
            f"--tls-private-key-file={file / 'server.key'}",
            f"--client-ca-file={file / 'clients.crt'}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={file / 'accounts.pub'}",
            f"--service-account-signing-key-file={file / 'accounts.key'}",
            f"--service-cluster-ip-range={SERVICES}",
            "--endpoint-reconciler-type=none",
            "--etcd-compaction-interval=0",  # the past is forgotten when a test says so
            f"--audit-policy-file={self._write('audit.yaml', AUDIT)}",
            f"--audit-log-path={file / 'audit.log'}",
            "--audit-log-mode=blocking",  # a request is in the log before its answer is on its way
            "--audit-log-maxsize=0",
        )
        if wait:
            self.until(lambda: self.ask("GET", "/readyz")[0] == 200)

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End the API server: at once, as a machine that dies, or with another signal."""
        self._stop("kube-apiserver", number)

    def mend(self) -> None:
        """Start the API server if a test has left it stopped, and wait until it is ready."""
        if "kube-apiserver" not in self._processes:
            self.start(wait=False)
        self.until(lambda: self.ask("GET", "/readyz")[0] == 200)

    def until(self, condition: Callable[[], object], seconds: float = READY_SECONDS) -> None:
        """Wait until something is so. Fails after ``seconds``, or when a component has ended by itself."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except (OSError, http.client.HTTPException):
                pass  # not there yet
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} has ended:\n{self.log(name)}"
            assert time.monotonic() < deadline, f"not so after {seconds:g} s:\n{self.log('kube-apiserver')}"
            time.sleep(LOOK_SECONDS)  # between two questions

    def log(self, name: str) -> str:
        """The last that a component said."""
        path = self.directory / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace")[-4000:] if path.exists() else ""

    # ── certificates and credentials ──────────────────────────────────────────────────────────────────────────────────
    def present(self, pair: Pair) -> None:
        """Have the API server present this from its next start on."""
        self._pair("server", pair)

    def present_of(self, authority: Authority) -> None:
        """Have it present a certificate of another authority from its next start on; who asks here trusts it."""
        self.present(server_pair(authority))
        self.authority = authority
        self._write("ca.crt", authority.certificate)
        self._context = self._trusting()

    def token(self, namespace: str, account: str, seconds: int = 3600) -> str:
        """A token of a ServiceAccount (TokenRequest)."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        spec = {"expirationSeconds": seconds}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        status, answer = self.ask("POST", path, body)
        assert status == 201, answer
        token: str = answer["status"]["token"]
        return token

    def service_account(self, namespace: str, account: str, directory: Path) -> None:
        """Write ``token``, ``ca.crt`` and ``namespace`` as a Pod finds them."""
        directory.mkdir(exist_ok=True)
        (directory / "token").write_text(self.token(namespace, account))
        (directory / "ca.crt").write_bytes(self.authority.certificate)
        (directory / "namespace").write_text(namespace)

    # ── as its administrator ──────────────────────────────────────────────────────────────────────────────────────────
    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        *,
        token: str | None = None,
    ) -> tuple[int, Document]:
        """One request with every right, or with those of ``token``: status, and the JSON object of the answer.

        Raises OSError.
        """
        context = self._context if token is None else self._trusting(as_admin=False)
        connection = http.client.HTTPSConnection("127.0.0.1", self.ports["api"], timeout=20, context=context)
        try:
            payload = None if body is None else json.dumps(body).encode()
            headers = {"Content-Type": content_type} if body is not None else {}
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            connection.request(method, path, payload, headers)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data.startswith(b"{") else {"text": data.decode()}
        finally:
            connection.close()

    def apply(self, document: Document) -> Document:
        """Make it so (server-side apply), with its namespace."""
        namespace = document["metadata"].get("namespace")
        if namespace and document["kind"] not in _CLUSTER_WIDE:
            self.namespace(namespace)
        query = "?fieldManager=tests&force=true"
        status, answer = self.ask("PATCH", address(document) + query, document, "application/apply-patch+yaml")
        assert status in (200, 201), answer
        return answer

    def namespace(self, name: str) -> None:
        if self.ask("GET", f"/api/v1/namespaces/{name}")[0] == 404:
            document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.ask("POST", "/api/v1/namespaces", document)

    def get(self, document: Document) -> Document:
        """An object as it is now, by the kind and names of ``document``."""
        status, answer = self.ask("GET", address(document))
        assert status == 200, answer
        return answer

    def remove(self, document: Document) -> None:
        status, answer = self.ask("DELETE", address(document))
        assert status in (200, 202, 404), answer

    def compact(self) -> None:
        """Have etcd forget every version but the current one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["etcd"], timeout=20)
        try:
            ranged = json.dumps({"key": base64.b64encode(b"/").decode(), "count_only": True})
            connection.request("POST", "/v3/kv/range", ranged)
            revision = json.loads(connection.getresponse().read())["header"]["revision"]
            connection.request("POST", "/v3/kv/compaction", json.dumps({"revision": revision, "physical": True}))
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == 200, said
        finally:
            connection.close()

    def asked(self, user: str, since: int = 0) -> list[Asked]:
        """What a user asked and was answered, in the order of the answers; ``since``: bytes of the log to pass over."""
        found = []
        with open(self.directory / "audit.log", encoding="utf-8") as log:
            log.seek(since)
            for line in log:
                event = json.loads(line)
                code = event.get("responseStatus", {}).get("code", 0)
                is_end = (event["verb"], event["stage"], code) == ("watch", "ResponseComplete", 200)
                if event["user"]["username"] == user and not is_end:  # its beginning was told before
                    found.append(Asked(user, event["verb"], event["requestURI"], code))
        return found

    @property
    def audited(self) -> int:
        """Bytes of the audit log so far."""
        path = self.directory / "audit.log"
        return path.stat().st_size if path.exists() else 0

    # ── components ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _start_etcd(self) -> None:
        client = f"http://127.0.0.1:{self.ports['etcd']}"
        peer = f"http://127.0.0.1:{self.ports['peer']}"
        self._start(
            "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--socket-reuse-port=true",
            "--unsafe-no-fsync=true",
            "--log-level=warn",
        )

        def answers() -> bool:
            connection = http.client.HTTPConnection("127.0.0.1", self.ports["etcd"], timeout=5)
            try:
                connection.request("GET", "/health")
                return connection.getresponse().status == 200
            finally:
                connection.close()

        self.until(answers)

    def _start_manager(self) -> None:
        config = self.directory / "manager.yaml"
        self._start(
            "kube-controller-manager",
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports['manager']}",
            "--permit-port-sharing",
            f"--cert-dir={self.directory / 'manager-certificates'}",
            "--leader-elect=false",
            f"--root-ca-file={self.directory / 'ca.crt'}",
            f"--service-account-private-key-file={self.directory / 'accounts.key'}",
            f"--controllers={CONTROLLERS}",
        )

    def _start(self, name: str, *arguments: str) -> None:
        with open(self.directory / f"{name}.log", "ab") as log:
            command = ["nice", "-n", "5", str(self._binaries / name), *arguments]
            self._processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.directory, preexec_fn=_die_with_parent
            )

    def _stop(self, name: str, number: int) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.send_signal(number)
            process.wait(READY_SECONDS)

    def _end(self) -> None:
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            self._stop(name, signal.SIGKILL)
        for bound in self._held.values():
            bound.close()

    # ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _write(self, name: str, content: str | bytes) -> Path:
        path = self.directory / name
        data = content if isinstance(content, bytes) else content.encode()
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        return path

    def _pair(self, name: str, pair: Pair) -> tuple[Path, Path]:
        return self._write(f"{name}.crt", pair.chain), self._write(f"{name}.key", pair.key)

    def _trusting(self, *, as_admin: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        if as_admin:
            context.load_cert_chain(*self._admin)
        return context

    def _kubeconfig(self, certificate: Path, key: Path) -> str:
        cluster = {"server": self.url, "certificate-authority": str(self.directory / "ca.crt")}
        user = {"client-certificate": str(certificate), "client-key": str(key)}
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "it",
                "clusters": [{"name": "it", "cluster": cluster}],
                "users": [{"name": "it", "user": user}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            }
        )


def address(document: Document) -> str:
    """The path of the object that a document names."""
    group, _, version = document["apiVersion"].rpartition("/")
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    kind, metadata = document["kind"], document["metadata"]
    plural = _PLURALS.get(kind, kind.lower() + ("es" if kind.endswith("s") else "s"))
    within = "" if kind in _CLUSTER_WIDE else f"/namespaces/{metadata['namespace']}"
    return f"{root}{within}/{plural}/{metadata['name']}"


def _die_with_parent() -> None:
    """In the child: a test run that is killed leaves nothing behind. It is the thread that forked whose end counts."""
    _PRCTL(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


_PRCTL: Final = ctypes.CDLL(None).prctl


def _held() -> socket.socket:
    """A free port of loopback, bound and not listened on: the one who shares it gets every connection."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", 0))
    return bound


AUDIT: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
"""
