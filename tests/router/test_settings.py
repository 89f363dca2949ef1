"""Flags win over the environment, the environment over defaults; what is wrong is named."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest

from drycc_router.settings import FIELDS, LogTo, Settings, SettingsError, read, unknown


def test_defaults_are_the_contract_s_ports(tmp_path: Path) -> None:
    settings = read({"manifests": str(tmp_path)}, {})
    assert (settings.http_port, settings.https_port, settings.git_port, settings.admin_port) == (8080, 8443, 2222, 9090)
    assert settings == Settings(manifests=tmp_path)
    assert (settings.namespace, settings.access_log) == ("drycc", LogTo.STDOUT)


def test_every_field_of_settings_stands_in_the_table() -> None:
    assert [field.name for field in FIELDS] == [field.name for field in dataclasses.fields(Settings)]


def test_every_default_can_be_written(tmp_path: Path) -> None:
    written = {field.name: field.default for field in FIELDS}
    assert written["manifests"] is None
    assert not {"None", "()"} & {default for default in written.values() if default}
    assert (written["http_port"], written["access_log"], written["log_level"]) == ("8080", "-", "info")
    assert read(written | {"manifests": str(tmp_path)}, {}) == Settings(manifests=tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("bind", "127.0.0.1", "127.0.0.1"),
        ("bind", "::", "::"),
        ("http_port", "0", 0),
        ("https_port", "65535", 65535),
        ("git_port", "22", 22),
        ("admin_port", "09090", 9090),
        ("workers", "2", 2),
        ("workers", "0", 0),
        ("namespace", "deis", "deis"),
        ("access_log", "-", LogTo.STDOUT),
        ("access_log", "off", LogTo.NOWHERE),
        ("access_log", "/var/log/a.log", Path("/var/log/a.log")),
        ("drain_delay", "0", 0.0),
        ("drain_grace", "0.5", 0.5),
        ("log_level", "Debug", logging.DEBUG),
        ("memory_limit", "0", 0),
        ("memory_limit", "1m", 1 << 20),
    ],
)
def test_a_setting_is_read_from_flag_and_environment_alike(tmp_path: Path, name: str, text: str, value: object) -> None:
    written = {"manifests": str(tmp_path), name: text}
    environment = {f"DRYCC_ROUTER_{key.upper()}": text for key, text in written.items()}
    assert getattr(read(written, {}), name) == value
    assert getattr(read({}, environment), name) == value
    assert getattr(read(written, {f"DRYCC_ROUTER_{name.upper()}": "\x00 nonsense"}), name) == value


def test_a_variable_that_is_none_of_ours_is_named_with_the_one_that_may_be_meant() -> None:
    environment = {"DRYCC_ROUTER_WORKER": "2", "DRYCC_ROUTER_WORKERS": "2", "DRYCC_ROUTERS": "x", "PATH": "/bin"}
    assert unknown(environment) == [
        "DRYCC_ROUTER_WORKER in the environment: there is no such setting; did you mean DRYCC_ROUTER_WORKERS?"
    ]
    assert unknown({"DRYCC_ROUTER_WHATEVER_ELSE": ""}) == [
        "DRYCC_ROUTER_WHATEVER_ELSE in the environment: there is no such setting"
    ]


def test_what_kubernetes_says_of_services_is_no_setting(tmp_path: Path) -> None:
    """Of a Service drycc-router, and of one drycc-router-admin, in every Pod of their namespace."""
    environment = {
        f"DRYCC_ROUTER{service}_{name}": text
        for service in ("", "_ADMIN")
        for name, text in {
            "SERVICE_HOST": "10.0.0.1",
            "SERVICE_PORT": "9090",
            "SERVICE_PORT_HTTP": "9090",
            "PORT": "tcp://10.0.0.1:9090",
            "PORT_9090_TCP": "tcp://10.0.0.1:9090",
            "PORT_9090_TCP_PROTO": "tcp",
            "PORT_9090_TCP_PORT": "9090",
            "PORT_9090_TCP_ADDR": "10.0.0.1",
        }.items()
    }
    assert unknown(environment) == []
    assert read({"manifests": str(tmp_path)}, environment).admin_port == 9090
    assert len(unknown({"DRYCC_ROUTER_PORT": "80"})) == 1


@pytest.mark.parametrize("name", ["drain_delay", "drain_grace", "manifests_settle"])
def test_times_are_written_as_in_annotations(tmp_path: Path, name: str) -> None:
    for text, time in (("500ms", 0.5), ("10", 10.0), ("1.5m", 90.0), ("0", 0.0), ("10d", 864000.0)):
        assert getattr(read({"manifests": str(tmp_path), name: text}, {}), name) == time
    with pytest.raises(SettingsError, match=r"expected a time such as 500ms, 10s or 1.5m, at most 10d, not '11d'"):
        read({"manifests": str(tmp_path), name: "11d"}, {})


def test_the_pod_s_namespace_is_ours_unless_told_otherwise(tmp_path: Path) -> None:
    flags = {"manifests": str(tmp_path)}
    assert read(flags, {"POD_NAMESPACE": "pod"}).namespace == "pod"
    assert read(flags, {"POD_NAMESPACE": "pod", "DRYCC_ROUTER_NAMESPACE": "ours"}).namespace == "ours"
    assert read({**flags, "namespace": "flag"}, {"POD_NAMESPACE": "pod"}).namespace == "flag"


def test_a_replica_is_called_after_its_pod(tmp_path: Path) -> None:
    flags = {"manifests": str(tmp_path)}
    assert read(flags, {}).identity is None
    assert read(flags, {"POD_NAME": "drycc-router-7d4b9-x2x4z"}).identity == "drycc-router-7d4b9-x2x4z"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("manifests", "/no/such/directory"),
        ("manifests", ""),
        ("manifests", __file__),
        ("identity", "a b"),
        ("bind", "localhost"),
        ("bind", ""),
        ("http_port", "65536"),
        ("http_port", "-1"),
        ("http_port", "http"),
        ("http_port", "٨٠"),
        ("http_port", "9" * 5000),
        ("workers", "257"),
        ("workers", "-1"),
        ("namespace", "Not_A_Namespace"),
        ("access_log", ""),
        ("drain_grace", "-1"),
        ("drain_grace", "inf"),
        ("log_level", "loud"),
        ("handover", __file__),
        ("handover", str(Path(__file__).parent)),
        ("handover", "/no/such/directory/way"),
        ("memory_limit", "512"),
        ("memory_limit", "1023k"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_expected(tmp_path: Path, name: str, text: str) -> None:
    [field] = [field for field in FIELDS if field.name == name]
    with pytest.raises(SettingsError) as caught:
        read({"manifests": str(tmp_path), name: text}, {})
    assert str(caught.value) == f"{field.flag}: expected {field.expected}, not {text!r}"
    with pytest.raises(SettingsError, match=f"^DRYCC_ROUTER_{name.upper()}: "):
        read({}, {"DRYCC_ROUTER_MANIFESTS": str(tmp_path), f"DRYCC_ROUTER_{name.upper()}": text})


def test_without_a_source_there_is_nothing_to_serve() -> None:
    with pytest.raises(SettingsError, match=r"^--manifests: expected a directory"):
        read({}, {})
