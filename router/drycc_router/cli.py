"""The command line: ``run``, ``check``, ``rbac``, ``version``. Flags in, exit statuses out; the one place that prints.

::

    0   clean: drained after a signal, or nothing to mend
    1   check found problems
    2   check could not read a path, rbac could not look at the cluster
    64  a flag or a variable that cannot be honoured (EX_USAGE)
    70  the router failed (EX_SOFTWARE)
    71  a port or a file that the system did not give us (EX_OSERR)
    128 + n  ended at once by a second signal n

What must not enter: anything that is still running when a command is over.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from drycc_router import __version__, settings
from drycc_router.kubernetes.errors import ApiError, CredentialsError
from drycc_router.process import logs
from drycc_router.rbac.rules import NAMED, NOWHERE, WATCHED, reading

if TYPE_CHECKING:
    from drycc_router.roles.supervisor import ControlStart

__all__ = ["main"]

log = logging.getLogger(__name__)

_WHERE = frozenset({"manifests", "kubeconfig", "watch_namespaces", "namespace", "name"})
"""Settings that say where Services are and what the router is called."""

USAGE = 64
SOFTWARE = 70
OSERR = 71


class _Parser(argparse.ArgumentParser):
    """argparse, but a wrong flag is EX_USAGE like every wrong setting; 2 means something else to ``check``."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status; argparse itself raises SystemExit."""
    arguments = _parser().parse_args(argv)
    match arguments.command:
        case "run":
            return _run(arguments)
        case "check":
            return _check(arguments)
        case "rbac":
            return _rbac(arguments)
        case _:
            print(f"drycc-router {__version__}")
            return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="drycc-router", description="The ingress router and edge proxy of the Workflow platform.")
    parser.add_argument("--version", action="version", version=f"drycc-router {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="serve traffic", description="Serve traffic until SIGTERM, which drains.")
    for field in settings.FIELDS:
        default = "" if field.default is None else f"; default {field.default}"
        shown = f"{field.help} [{', '.join(field.variables)}{default}]"
        run.add_argument(field.flag, dest=field.name, metavar=field.metavar, help=shown.replace("%", "%%"))
    look = commands.add_parser(
        "check",
        help="print the routing table and every problem of manifests",
        description="Reads manifests as run would, with the same flags and environment, and tells what they come to. "
        "Exit status: 0 clean, 1 with problems, 2 if a path cannot be read.",
    )
    look.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        type=Path,
        help="directories and files; - is the standard input; by default what --manifests says",
    )
    look.add_argument(
        "-o",
        "--output",
        "--format",
        dest="output",
        choices=("text", "json", "lines"),
        default="text",
        help="text: the routing table, then what is to be said, app by app; json: the same for programs; lines: "
        "FILE:LINE: MESSAGE, as editors read it",
    )
    for field in settings.FIELDS:
        look.add_argument(field.flag, dest=field.name, metavar=field.metavar, help="as for run")
    rights = commands.add_parser(
        "rbac",
        help="print the rights that the router needs in a cluster",
        description="Prints Roles and their bindings, ready for kubectl apply: the least that these settings need.",
    )
    for field in settings.FIELDS:
        if field.name in _WHERE:
            rights.add_argument(field.flag, dest=field.name, metavar=field.metavar, help=field.help)
    rights.add_argument(
        "--secrets",
        metavar="WHERE",
        default=WATCHED,
        help="where certificates may be read, each by its name: watched (wherever Services are; the default), named "
        "(only those that Services name now), none, or a list of namespaces",
    )
    rights.add_argument("--pages", action="store_true", help="let it get ConfigMaps by name, for maintenance.page")
    rights.add_argument("--account", metavar="NAME", help="the ServiceAccount; by default named after the router")
    commands.add_parser("version", help="print the version")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    try:
        chosen = settings.read(vars(arguments), os.environ)
    except settings.SettingsError as error:
        print(f"drycc-router run: {error}", file=sys.stderr)
        return USAGE
    status = 0
    try:
        if chosen.workers == 0:
            from drycc_router.app import run  # here, so that check and version need neither a loop nor OpenSSL

            logs.start(chosen.log_level)
            _warn_of_unknown_variables()
            run(chosen)
        else:
            from drycc_router.roles import supervisor

            logs.start_directly(chosen.log_level)
            _warn_of_unknown_variables()
            status = supervisor.run(chosen, _control)
    except* CredentialsError as unusable:
        for credentials in unusable.exceptions:
            log.critical("%s", credentials)
        status = USAGE
    except* OSError as refused:
        for each in refused.exceptions:
            log.critical("%s", each)
        status = OSERR
    except* Exception:
        log.critical("the router failed", exc_info=True)
        status = SOFTWARE
    return status


def _warn_of_unknown_variables() -> None:
    for sentence in settings.unknown(os.environ):
        log.warning("%s", sentence)


def _control(start: ControlStart) -> int:
    """In the control process: import there, and nowhere else, what speaks with the cluster."""
    from drycc_router.app import control

    logs.start(start.settings.log_level)
    status = 0
    try:
        control(start)
    except* CredentialsError as unusable:
        for credentials in unusable.exceptions:
            log.critical("%s", credentials)
        status = USAGE
    return status


def _check(arguments: argparse.Namespace) -> int:
    from drycc_router import check  # here, so that the parent of all processes does not wait for it

    flags = {field.name: getattr(arguments, field.name) for field in settings.FIELDS}
    environment = dict(os.environ)
    # Files are read here, wherever a router with the same settings would look.
    elsewhere = {"kubeconfig"} | ({"manifests"} if arguments.paths else set())
    for field in settings.FIELDS:
        if field.name in elsewhere:
            flags[field.name] = None
            for name in field.variables:
                environment.pop(name, None)
    try:
        chosen = settings.read(flags, environment, needs_source=False)
    except settings.SettingsError as error:
        unusable = error.where in ("--manifests", "DRYCC_ROUTER_MANIFESTS")
        print(f"drycc-router check: {error}", file=sys.stderr)
        return 2 if unusable else USAGE
    paths = arguments.paths or ([chosen.manifests] if chosen.manifests else [])
    if not paths:
        print("drycc-router check: PATH: expected a directory, a file, or - for the standard input", file=sys.stderr)
        return USAGE
    for sentence in settings.unknown(os.environ):
        print(f"drycc-router check: {sentence}", file=sys.stderr)
    for path in paths:
        if str(path) != "-" and not os.access(path, os.R_OK):
            expected = f"expected a directory or a file that can be read, not '{path}'"
            print(f"drycc-router check: PATH: {expected}", file=sys.stderr)
            return 2
    stdin = sys.stdin.buffer.read() if Path("-") in paths else b""
    checked = check.checked(paths, chosen, stdin)
    told = {"json": check.as_json, "lines": check.as_lines, "text": check.as_text}[arguments.output](checked)
    if told:
        _tell(told)
    return 0 if all(problem.is_note for problem in checked.snapshot.problems) else 1


def _rbac(arguments: argparse.Namespace) -> int:
    from drycc_router.rbac import manifests  # here, as above

    written = {name: getattr(arguments, name) for name in _WHERE}
    try:
        if arguments.secrets not in (WATCHED, NAMED, NOWHERE):
            _judge_namespaces(arguments.secrets)
        chosen = settings.read(written, os.environ, needs_source=arguments.secrets == NAMED)
        named = manifests.named_by_services(chosen) if arguments.secrets == NAMED else ()
    except settings.SettingsError as error:
        print(f"drycc-router rbac: {error}", file=sys.stderr)
        return USAGE
    except (ApiError, CredentialsError) as error:
        print(f"drycc-router rbac: the cluster cannot be asked: {error}", file=sys.stderr)
        return 2
    _tell(
        manifests.as_yaml(chosen, reading(arguments.secrets, arguments.pages, named), arguments.account or chosen.name),
        "",
    )
    return 0


def _judge_namespaces(text: str) -> None:
    """Raise SettingsError unless ``text`` is a list of names that namespaces may have."""
    [field] = (each for each in settings.FIELDS if each.name == "watch_namespaces")
    expected = f"{WATCHED}, {NAMED}, {NOWHERE}, or {field.expected}"
    try:
        field.parse(text)
    except ValueError:
        raise settings.SettingsError("--secrets", text, expected) from None


def _tell(text: str, end: str = "\n") -> None:
    """Write to stdout. A reader that has closed its end (``head``, ``grep -q``) is no error."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        # What is still in the buffer is written once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
