"""What a process gives up before it reads its first hostile byte: worker, reader of certificates, git gateway.

Landlock (Linux 5.13 and later) works from an unprivileged process and cannot be taken back: from then on this process
opens nothing for reading but the files of its own program, so not the token that the control process logs in with; it
binds no port; and it signals nobody but itself. The other way would be a second container of the Pod without the
token's volume: then a message to a worker crosses a shared directory, a listening socket cannot be inherited, and
whoever runs the router without Kubernetes has no separation at all.

What is refused on every kernel: new privileges through ``execve``, core dumps, ``ptrace`` by processes of the same
user, and ``/proc/PID/environ`` and ``mem`` for them (hardening K-04).

What must not enter: who is confined, and when.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Final

__all__ = [
    "confine",
    "die_with_parent",
    "forget_environment",
    "harden",
    "ignore_signals_to_all",
    "landlock_abi",
    "name_process",
    "own_files",
]

_LIBC: Final = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_PR_SET_NO_NEW_PRIVS: Final = 38

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
"""System calls newer than 5.1 have one number on every architecture."""
_VERSION: Final = 1
_PATH_BENEATH: Final = 1

_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_WRITE: Final = 1 << 1 | 1 << 8 | 1 << 14
"""Write a file, make one, truncate one."""
_BITS_BY_ABI: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights over files each ABI knows: all of them are handled, so that what is not allowed is refused."""
_BIND_TCP: Final = 1
_SCOPES: Final = 1 << 0 | 1 << 1
"""Abstract Unix sockets and signals (ABI 6)."""
_LIBRARIES: Final = tuple(map(Path, ("/lib", "/lib64", "/usr/lib", "/usr/lib64")))
_NEVER: Final = tuple(map(Path, ("/run/secrets", "/var/run/secrets")))
"""What Kubernetes gives a Pod to log in with; no directory above it may be read, wherever Python was installed."""


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def die_with_parent(parent: int, number: int = signal.SIGTERM) -> bool:
    """Have ``number`` sent here when the process ``parent`` ends. False: it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, number)
    return os.getppid() == parent


def ignore_signals_to_all() -> None:
    """Ignore what a terminal, a shell or an init system sends to a whole group of processes at once.

    The supervisor receives it too, and orders what follows: a child that ended by itself would end before its time. A
    child notices the end of the supervisor by the end of its reins.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def name_process(name: str) -> None:
    """What ``ps`` and ``top`` show; at most 15 bytes of it."""
    _LIBC.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def harden() -> None:
    """What costs a process nothing and takes much from whoever gets into it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would have every private key in it
    if sys.platform == "linux":
        _prctl(_PR_SET_DUMPABLE, 0)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def forget_environment() -> None:
    """Empty the environment, also where ``/proc/PID/environ`` shows it: the memory the kernel laid it out in."""
    os.environ.clear()
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[47]), int(fields[48])  # env_start and env_end; the state is the first behind the name
    except (OSError, ValueError, IndexError):
        return
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)


def landlock_abi() -> int:
    """The version of Landlock that this kernel offers; 0: none."""
    return max(0, int(_LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def own_files(*packages: ModuleType) -> list[Path]:
    """Where this program and its Python live: what may be read for ever, because a module may be imported late."""
    mine = [Path(package.__path__[0]) for package in packages]
    python = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found = {path.resolve() for path in (*mine, *python, *_LIBRARIES) if path.is_dir()}
    return sorted(path for path in found if path not in _NEVER and not any(path in secret.parents for secret in _NEVER))


def confine(readable: Iterable[Path], writable: Iterable[Path] = ()) -> int:
    """Give up every right over files but reading below ``readable`` and writing files below ``writable``, for ever.

    Files that are open stay open. Returns the ABI that holds this process; 0: the kernel has none, nothing changed.
    Raises OSError when the kernel has it and refuses.
    """
    abi = landlock_abi()
    if not abi:
        return 0
    handled = (1 << _BITS_BY_ABI.get(abi, 16)) - 1
    attributes = struct.pack("=Q", handled)
    if abi >= 4:
        attributes += struct.pack("=Q", _BIND_TCP)
    if abi >= 6:
        attributes += struct.pack("=Q", _SCOPES)
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        for path in readable:
            _allow(ruleset, path, (_READ_FILE | _READ_DIR) & handled)
        for path in writable:
            _allow(ruleset, path, _WRITE & handled)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return abi


def _allow(ruleset: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not path.is_dir():
            rights &= ~(_READ_DIR | 1 << 8)
        rule = struct.pack("=Qi", rights, descriptor)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    result = int(_LIBC.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
