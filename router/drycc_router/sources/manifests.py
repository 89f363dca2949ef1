"""A directory of manifests as a source: read once, then watched.

Four rules make it safe to edit under traffic. The watch begins before the first look, so nothing falls between them. A
file is read only once it has been still for a moment, so that a file being written in several steps is not taken for a
shorter one. What a file gave is taken back only once the file has been empty or away for a settle time: a shell
empties the target of ``kubectl get … > file`` before kubectl has an answer, and some editors move the old file aside
before they write the new one. Objects that the file has again in the meantime never went. (Where one object of several
is deleted, that counts at once.) And a sweep over the whole tree every now and then finds what a lost notification, a
network file system or a directory that was put in place of the watched one would hide.

Files are told apart by name: ``*.yaml``, ``*.yml`` and ``*.json``; what begins with a dot is skipped (editors'
temporary files, ``.git``, and the ``..data`` of a mounted ConfigMap, whose files are reached through the links beside
it). Directories behind symbolic links are followed, each once.

What must not enter: what an object means, and any content of a file in a log or a Problem.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Final, Literal, Protocol

from watchfiles._rust_notify import RustNotify  # the documented way to watch before looking; awatch() looks too late

from drycc_router.model.problems import Problem, Reason
from drycc_router.sources.batch import Batch
from drycc_router.sources.manifest_index import Shelf
from drycc_router.sources.manifest_objects import Contents, file_key, read_objects, unreadable
from drycc_router.sources.yaml_documents import DocumentError, read_json, read_yaml

__all__ = ["MAX_FILE", "ManifestTree", "follow", "manifests", "names_below", "parse", "read_once"]

log = logging.getLogger(__name__)

MAX_FILE: Final = 8 * 1024 * 1024
"""Bytes. Eight thousand Services with their slices fit; nobody writes more into one file by hand."""

STILL: Final = 0.04
"""Seconds without a write after which a file is taken to be complete."""
SETTLE: Final = 2.0
"""Seconds for which an emptied or removed file must stay so before it takes its objects along, if nobody says else."""
SETTLE_AT_MOST: Final = 10
"""The same for a file that is written again and again meanwhile, in settle times: then it counts as it stands."""
PATIENCE: Final = 1.0
"""Seconds after which a file that never stands still is read all the same."""
STEP: Final = 20
"""Milliseconds between two looks at what the kernel has told."""
GATHER: Final = 60
"""Milliseconds for which a burst of notifications is gathered at most."""
SWEEP: Final = 10.0
"""Seconds between two sweeps over a tree that is being watched."""
POLL: Final = 1.0
"""Seconds between two sweeps over a tree that cannot be watched (no inotify left, the directory is gone)."""

_SUFFIXES: Final = frozenset({".json", ".yaml", ".yml"})
_Fingerprint = tuple[int, int, int, int, int]


class ManifestTree:
    """The files below ``root``, what they give, and which of them wait until they stand still.

    Everything here blocks; it belongs into one thread at a time. ``still`` in seconds, 0 to read whatever is there now;
    ``settle`` in seconds, 0 to believe at once that a file is empty or gone. ``wall`` is the time that file systems
    stamp, ``ticks`` one that never jumps; both in nanoseconds.
    """

    def __init__(
        self,
        root: Path,
        *,
        still: float = STILL,
        settle: float = SETTLE,
        wall: Callable[[], int] = time.time_ns,
        ticks: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.root = root
        self._still = int(still * 1e9)
        self._settle = int(settle * 1e9)
        self._wall = wall
        self._ticks = ticks
        self._shelf = Shelf()
        self._fingerprints: dict[str, _Fingerprint] = {}
        self._waiting: dict[str, int] = {}
        """Files that are being written, and since when we wait."""
        self._missing: dict[str, int] = {}
        """Files that gave something and are not there, and since when: somebody may be about to put them back."""
        self._emptied: dict[str, tuple[int, int]] = {}
        """Files that were empty or away a moment ago: since when, and when they last changed."""
        self._blind: dict[str, tuple[Problem, ...]] = {}
        self._news: dict[str, tuple[Problem, ...]] = {}

    @property
    def waiting(self) -> bool:
        """Whether files are being written, so that what they give is not complete."""
        return bool(self._waiting)

    @property
    def due(self) -> float | None:
        """Seconds until it is time to :meth:`look` again although nothing was heard of; None: never."""
        if self._waiting:
            return STILL
        moments = [since + self._settle for since in self._missing.values()]
        moments += [self._emptied_until(*times) for times in self._emptied.values()]
        return max(0.0, (min(moments) - self._ticks()) / 1e9) if moments else None

    def sweep(self) -> None:
        """Look at the whole tree; read what differs from what was read before."""
        names, blind = self._walk()
        for name in self._shelf.files - names:
            if not any(_is_below(name, folder) for folder in blind):
                self._lose(name)
        for name in sorted(names):
            self._read(name, again=False)
        for folder in self._blind.keys() | blind.keys():
            if blind.get(folder, ()) != self._blind.get(folder, ()):
                self._news[f"directory:{folder}"] = blind.get(folder, ())
        self._blind = blind

    def look(self, paths: Iterable[str] = ()) -> None:
        """Look at what may have changed: the paths that a notification named, and the files that wait."""
        now = self._ticks()
        names = set(self._waiting)
        names |= {name for name, since in self._missing.items() if now - since >= self._settle}
        names |= {name for name, times in self._emptied.items() if now >= self._emptied_until(*times)}
        for path in paths:
            concerned = self._concerned(path)
            if concerned is None:
                self.sweep()
                break
            names |= concerned
        for name in sorted(names):
            self._read(name, again=True)

    def settle(self) -> Batch:
        """What changed since the last call."""
        batch = self._shelf.settle()
        news, self._news = self._news, {}
        return Batch(batch.changes, {**news, **batch.problems})

    def _concerned(self, path: str) -> set[str] | None:
        """Names of the files a notification about ``path`` is about; None: more than it says, so look at them all."""
        try:
            name = PurePath(path).relative_to(self.root).as_posix()
        except ValueError:  # behind a symbolic link: what it is called here is not known
            return None
        parts = name.split("/")
        if any(part.startswith("..") for part in parts):  # a mounted ConfigMap changes by moving its ..data link
            return None
        if any(part.startswith(".") for part in parts if part != "."):
            return set()
        if os.path.isdir(self.root / name):
            return None
        if _is_manifest(name):
            return {name}
        return None if any(_is_below(file, name) for file in self._shelf.files) else set()  # was it a directory?

    def _walk(self) -> tuple[set[str], dict[str, tuple[Problem, ...]]]:
        """Names of all manifests below the root, and the directories that could not be looked into."""
        names: set[str] = set()
        blind: dict[str, tuple[Problem, ...]] = {}
        seen: set[tuple[int, int]] = set()
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                about = os.stat(self.root / folder)
                if (about.st_dev, about.st_ino) in seen:
                    continue
                seen.add((about.st_dev, about.st_ino))
                with os.scandir(self.root / folder) as entries:
                    for entry in entries:
                        if entry.name.startswith("."):
                            continue
                        name = f"{folder}/{entry.name}" if folder else entry.name
                        if _leads_to_directory(entry):
                            folders.append(name)
                        elif _is_manifest(entry.name):
                            names.add(name)
            except OSError as error:
                message = f"the directory could not be read ({_why(error)}); what its files gave before stays"
                blind[folder] = (Problem(Reason.UNREADABLE_FILE, file_key(folder or "."), "", "", message),)
        return names, blind

    def _read(self, name: str, *, again: bool) -> None:
        """Read one file unless it is being written, or (not ``again``) stands as it was read before."""
        try:
            with open(self.root / name, "rb", opener=_opener) as file:
                missing_since = self._missing.pop(name, None)
                if missing_since is not None:
                    self._emptied[name] = (missing_since, self._ticks())
                    again = True
                about = os.fstat(file.fileno())
                fingerprint = _fingerprint(about)
                if not again and name not in self._waiting and self._fingerprints.get(name) == fingerprint:
                    return
                _judge(about)
                data = file.read(MAX_FILE + 1)
                if (self._is_fresh(about) or len(data) != about.st_size) and self._may_wait(name):
                    return
        except FileNotFoundError:
            self._lose(name)
            return
        except _Unreadable as unfit:
            contents = unreadable(name, str(unfit))
        except OSError as error:
            fingerprint = (0, 0, 0, 0, 0)
            contents = unreadable(name, f"could not be read ({_why(error)})")
        else:
            contents = parse(name, data)
        self._waiting.pop(name, None)
        self._missing.pop(name, None)
        changed = self._fingerprints.get(name) != fingerprint
        self._fingerprints[name] = fingerprint
        self._take(name, contents, changed=changed)

    def _take(self, name: str, contents: Contents, *, changed: bool) -> None:
        """Take what a file says; of one that was emptied or away, for a settle time only what it adds."""
        now = self._ticks()
        times = self._emptied.pop(name, None)
        if times is None and contents.whole and not contents.objects and self._shelf.gives(name):
            times = (now, now)
        if times is not None:
            times = (times[0], now if changed else times[1])
            if now < self._emptied_until(*times):
                self._emptied[name] = times
                if contents.whole:
                    self._shelf.put_beside(name, contents)
                    return
        self._shelf.put(name, contents)

    def _emptied_until(self, since: int, last: int) -> int:
        """When a file that was emptied counts as it stands."""
        return min(last + self._settle, since + SETTLE_AT_MOST * self._settle)

    def _is_fresh(self, about: os.stat_result) -> bool:
        """Whether it was written a moment ago. A stamp from the future is another machine's clock: no."""
        return 0 <= self._wall() - about.st_mtime_ns < self._still

    def _may_wait(self, name: str) -> bool:
        """Note that the file is being written. False: we have waited long enough."""
        now = self._ticks()
        return now - self._waiting.setdefault(name, now) < PATIENCE * 1e9

    def _lose(self, name: str) -> None:
        """The file is not there: forget what it gave, unless it went only a moment ago."""
        self._waiting.pop(name, None)
        self._emptied.pop(name, None)
        now = self._ticks()
        if self._shelf.gives(name) and now - self._missing.setdefault(name, now) < self._settle:
            self._shelf.leave(name)
            return
        self._missing.pop(name, None)
        self._fingerprints.pop(name, None)
        self._shelf.drop(name)


class _Unreadable(Exception):
    """A file that we do not even try to read; says why."""


def names_below(root: Path) -> tuple[list[str], tuple[Problem, ...]]:
    """Names of all manifests below a directory, in the order in which they count, and what could not be looked into."""
    names, blind = ManifestTree(root)._walk()
    return sorted(names), tuple(problem for problems in blind.values() for problem in problems)


def read_once(path: Path) -> bytes:
    """The bytes of one file as it is now. Raises ValueError, which says why not."""
    try:
        with open(path, "rb", opener=_opener) as file:
            _judge(os.fstat(file.fileno()))
            return file.read(MAX_FILE + 1)
    except _Unreadable as unfit:
        raise ValueError(str(unfit)) from None
    except OSError as error:
        raise ValueError(f"could not be read ({_why(error)})") from None


def _opener(path: str, flags: int) -> int:
    """A pipe with a manifest's name must not make us wait for somebody to write into it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _judge(about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise _Unreadable("not a regular file")
    if about.st_size > MAX_FILE:
        raise _Unreadable(f"larger than {MAX_FILE} bytes")


def parse(name: str, data: bytes) -> Contents:
    """What a file of this name gives, which ends with ``.json`` where it is JSON alone."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return unreadable(name, f"line {data.count(10, 0, error.start) + 1}: not UTF-8")
    try:
        documents = read_json(text) if name.endswith(".json") else read_yaml(text)
    except DocumentError as error:
        return unreadable(name, str(error))
    return read_objects(name, documents)


def _leads_to_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except (
        OSError
    ):  # a link that leads in circles, or through what may not be searched: the others are still to be read
        return False


def _is_manifest(name: str) -> bool:
    return PurePath(name).suffix in _SUFFIXES


def _is_below(name: str, folder: str) -> bool:
    return folder in ("", ".") or name.startswith(f"{folder}/")


def _fingerprint(about: os.stat_result) -> _Fingerprint:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _why(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


# ── watching ──────────────────────────────────────────────────────────────────────────────────────────────────────────
_Heard = set[tuple[int, str]] | Literal["signal", "stop", "timeout"]


class _Watcher(Protocol):
    def watch(self, debounce_ms: int, step_ms: int, timeout_ms: int, stop_event: threading.Event) -> _Heard: ...

    def close(self) -> None: ...


class _Poller:
    """Stands in for a watch that cannot be had: hears nothing, and lets the sweeps find out."""

    def watch(self, debounce_ms: int, step_ms: int, timeout_ms: int, stop_event: threading.Event) -> _Heard:
        return "stop" if stop_event.wait(timeout_ms / 1000) else "timeout"

    def close(self) -> None:
        """Nothing is open."""


def follow(tree: ManifestTree, stop: threading.Event) -> Iterator[Batch]:
    """Everything there is, as one batch, then what changes, until ``stop`` is set. Blocks between batches."""
    complete = False
    watched = True
    while not stop.is_set():  # forever; the loop below: as long as the directory is the one that is being watched
        watcher = _watch(tree.root)
        if watched and isinstance(watcher, _Poller):
            log.warning("%s cannot be watched: looking every %g s instead", tree.root, POLL)
        watched = not isinstance(watcher, _Poller)
        interval = SWEEP if watched else POLL
        try:
            identity = _identity(tree.root)
            tree.sweep()
            due = time.monotonic() + interval
            while not stop.is_set():
                if complete or not tree.waiting:
                    batch = tree.settle()
                    if batch or not complete:
                        complete = True
                        yield batch
                rest = due - time.monotonic() if tree.due is None else min(tree.due, due - time.monotonic())
                heard = watcher.watch(GATHER, STEP, max(1, int(rest * 1000)), stop)  # 0 would be for ever
                tree.look(path for _, path in heard) if isinstance(heard, set) else tree.look()
                if time.monotonic() >= due:
                    if not watched or _identity(tree.root) != identity:
                        break
                    tree.sweep()
                    due = time.monotonic() + interval
        finally:
            watcher.close()


def _watch(root: Path) -> _Watcher:
    try:
        return RustNotify([str(root)], False, False, 0, True, True)
    except (OSError, RuntimeError):  # no inotify left, or the directory is gone
        return _Poller()


def _identity(root: Path) -> tuple[int, int] | None:
    try:
        about = os.stat(root)
    except OSError:
        return None
    return about.st_dev, about.st_ino


async def manifests(root: Path, settle: float = SETTLE) -> AsyncGenerator[Batch, None]:
    """The batches of :func:`follow`, found in a thread so that no parsing ever holds up the loop. ``settle``: seconds
    for which an emptied or removed file must stay so to count.

    Never ends by itself: whatever goes wrong, what was told stays, and the tree is looked at again.
    """
    stop = threading.Event()
    tree = ManifestTree(root, settle=settle)
    batches = follow(tree, stop)
    try:
        while True:
            try:
                batch = await asyncio.to_thread(next, batches, None)
            except Exception:
                log.exception("looking at %s failed; trying again", root)
                await asyncio.sleep(POLL)
                batches = follow(tree, stop)
            else:
                if batch is None:  # only once stop is set
                    return
                yield batch
    finally:
        stop.set()
