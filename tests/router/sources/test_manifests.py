"""Stories of a directory that is edited, mounted, broken and mended while somebody reads it."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Reason
from drycc_router.sources import manifests as module
from drycc_router.sources.batch import Batch
from drycc_router.sources.manifest_objects import Contents
from drycc_router.sources.manifests import (
    MAX_FILE,
    PATIENCE,
    SETTLE,
    SETTLE_AT_MOST,
    STILL,
    ManifestTree,
    follow,
    manifests,
)

CANARY = "c4n4ry-s3cr3t"


def service(name: str, app: str = "one") -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {app}}}}}\n"


def said(batch: Batch) -> dict[str, str | None]:
    """Name of each changed object → its label ``app``; None: gone."""
    return {
        change.key.name: change.object["metadata"]["labels"]["app"] if change.object else None
        for change in batch.changes
    }


def swept(tree: ManifestTree) -> Batch:
    tree.sweep()
    return tree.settle()


def reasons(batch: Batch) -> dict[str, list[Reason]]:
    return {source: [problem.reason for problem in problems] for source, problems in batch.problems.items()}


@pytest.fixture
def tree(tmp_path: Path) -> ManifestTree:
    return ManifestTree(tmp_path, still=0, settle=0)


# ── one look ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_manifest_below_the_directory_is_read(tree: ManifestTree) -> None:
    (tree.root / "deep" / "er").mkdir(parents=True)
    (tree.root / "a.yaml").write_text(service("a") + "---\n" + service("b"))
    (tree.root / "deep" / "c.yml").write_text(service("c"))
    (tree.root / "deep" / "er" / "d.json").write_text(
        '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "d", "labels": {"app": "one"}}}'
    )
    (tree.root / "README.md").write_text("not a manifest")
    batch = swept(tree)
    assert said(batch) == dict.fromkeys("abcd", "one")
    assert batch.problems == {}


@pytest.mark.parametrize("name", [".a.yaml", ".git/a.yaml", "a.yaml~", ".a.yaml.swp", "a.yaml.tmp", "4913", "#a.yaml#"])
def test_what_editors_leave_behind_is_not_read(tree: ManifestTree, name: str) -> None:
    (tree.root / name).parent.mkdir(exist_ok=True)
    (tree.root / name).write_text(service("a"))
    assert not swept(tree)
    tree.look([str(tree.root / name)])
    assert not tree.settle()


def test_an_empty_directory_says_nothing(tree: ManifestTree) -> None:
    assert not swept(tree)


def test_a_file_that_did_not_change_is_not_read_again(tree: ManifestTree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.root / "a.yaml").write_text(service("a"))
    (tree.root / "b.yaml").write_text(service("b"))
    swept(tree)
    read: list[str] = []
    parse = module.parse

    def noting(name: str, data: bytes) -> Contents:
        read.append(name)
        return parse(name, data)

    monkeypatch.setattr(module, "parse", noting)
    (tree.root / "b.yaml").write_text(service("b", "two two"))
    assert said(swept(tree)) == {"b": "two two"}
    assert read == ["b.yaml"]


def test_a_broken_file_keeps_what_it_gave_until_it_is_mended(tree: ManifestTree) -> None:
    file = tree.root / "a.yaml"
    file.write_text(service("a") + "---\n" + service("b"))
    swept(tree)
    file.write_text(service("a", "two") + "---\nkind: [Serv")
    batch = swept(tree)
    assert batch.changes == ()
    [problem] = batch.problems["file:a.yaml"]
    assert problem.reason is Reason.UNREADABLE_FILE
    assert problem.object == ObjectKey("File", "", "a.yaml")
    assert problem.message.startswith("line ")
    file.write_text(service("a", "two"))
    batch = swept(tree)
    assert said(batch) == {"a": "two", "b": None}
    assert batch.problems == {"file:a.yaml": ()}


def test_one_broken_file_does_not_keep_the_others_from_being_read(tree: ManifestTree) -> None:
    (tree.root / "a.yaml").write_bytes(b"\xff\xfe\x00")
    (tree.root / "b.yaml").write_text(service("b"))
    batch = swept(tree)
    assert said(batch) == {"b": "one"}
    assert reasons(batch) == {"file:a.yaml": [Reason.UNREADABLE_FILE]}


def test_bytes_that_are_not_utf_8_are_named_by_their_line(tree: ManifestTree) -> None:
    (tree.root / "a.yaml").write_bytes(b"a: 1\nb: 2\nc: \xff\n")
    assert "line 3: not UTF-8" in swept(tree).problems["file:a.yaml"][0].message


def test_a_byte_order_mark_is_no_harm(tree: ManifestTree) -> None:
    (tree.root / "a.yaml").write_bytes(b"\xef\xbb\xbf" + service("a").encode())
    assert said(swept(tree)) == {"a": "one"}


def test_a_broken_secret_is_not_quoted(tree: ManifestTree) -> None:
    (tree.root / "a.yaml").write_text(f"kind: Secret\nstringData:\n  tls.key: '{CANARY}\n")
    (tree.root / "b.json").write_text(f'{{"stringData": {{"tls.key": "{CANARY}}}')
    batch = swept(tree)
    assert len(batch.problems) == 2
    assert CANARY not in repr(batch)


def test_a_file_too_large_to_be_a_manifest_is_a_problem(tree: ManifestTree) -> None:
    with (tree.root / "a.yaml").open("wb") as file:
        file.truncate(MAX_FILE + 1)
    [problem] = swept(tree).problems["file:a.yaml"]
    assert "larger than" in problem.message


def test_a_pipe_with_the_name_of_a_manifest_does_not_make_us_wait(tree: ManifestTree) -> None:
    os.mkfifo(tree.root / "a.yaml")
    [problem] = swept(tree).problems["file:a.yaml"]
    assert "not a regular file" in problem.message


def test_a_deleted_file_takes_its_objects_along(tree: ManifestTree) -> None:
    file = tree.root / "a.yaml"
    file.write_text(service("a"))
    swept(tree)
    file.unlink()
    tree.look([str(file)])
    assert said(tree.settle()) == {"a": None}


def test_a_deleted_directory_takes_its_files_along(tree: ManifestTree) -> None:
    (tree.root / "team").mkdir()
    (tree.root / "team" / "a.yaml").write_text(service("a"))
    swept(tree)
    shutil.rmtree(tree.root / "team")
    tree.look([str(tree.root / "team")])
    assert said(tree.settle()) == {"a": None}


def test_the_second_of_two_files_takes_over(tree: ManifestTree) -> None:
    (tree.root / "a.yaml").write_text(service("web", "from a"))
    (tree.root / "b.yaml").write_text(service("web", "from b"))
    batch = swept(tree)
    assert said(batch) == {"web": "from a"}
    assert reasons(batch) == {"object:Service shop/web": [Reason.DUPLICATE_OBJECT]}
    (tree.root / "a.yaml").unlink()
    batch = swept(tree)
    assert said(batch) == {"web": "from b"}
    assert reasons(batch) == {"object:Service shop/web": []}


def test_a_directory_that_cannot_be_read_keeps_what_its_files_gave(
    tree: ManifestTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree.root / "team").mkdir()
    (tree.root / "team" / "a.yaml").write_text(service("a"))
    swept(tree)
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path == tree.root / "team":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)
        batch = swept(tree)
    assert batch.changes == ()
    [problem] = batch.problems["directory:team"]
    assert "permission denied" in problem.message
    assert swept(tree).problems == {"directory:team": ()}


def test_links_that_lead_in_circles_are_walked_once(tree: ManifestTree) -> None:
    (tree.root / "team").mkdir()
    (tree.root / "team" / "a.yaml").write_text(service("a"))
    (tree.root / "team" / "up").symlink_to(tree.root)
    (tree.root / "lost.yaml").symlink_to(tree.root / "nowhere")
    assert said(swept(tree)) == {"a": "one"}


@pytest.mark.parametrize("name", ["loop", "loop.yaml"])
def test_a_link_to_itself_hides_no_other_file(tree: ManifestTree, name: str) -> None:
    (tree.root / name).symlink_to(name)
    for number in range(5):  # before it and behind it, in whatever order the directory is listed
        (tree.root / f"{number}.yaml").write_text(service(f"s{number}"))
    batch = swept(tree)
    assert said(batch) == {f"s{number}": "one" for number in range(5)}
    about = [problem.key or problem.message for problems in batch.problems.values() for problem in problems]
    assert len(about) == name.endswith(".yaml"), about


def test_files_behind_a_link_are_found(tree: ManifestTree, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "a.yaml").write_text(service("a"))
    (tree.root / "linked").symlink_to(elsewhere)
    assert said(swept(tree)) == {"a": "one"}
    (elsewhere / "a.yaml").write_text(service("a", "two"))
    tree.look([str(elsewhere / "a.yaml")])  # a notification may use either name
    assert said(tree.settle()) == {"a": "two"}


# ── files that are being written ──────────────────────────────────────────────────────────────────────────────────────
class Clock:
    """Wall-clock time that passes when told to."""

    def __init__(self) -> None:
        self.now = time.time_ns()

    def __call__(self) -> int:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)

    def write(self, file: Path, text: str) -> None:
        file.write_text(text)
        os.utime(file, ns=(self.now, self.now))


def test_a_file_is_read_once_it_stands_still(tmp_path: Path) -> None:
    clock = Clock()
    tree = ManifestTree(tmp_path, wall=clock, ticks=clock)
    whole = service("a") + "---\n" + service("b")
    clock.write(tmp_path / "a.yaml", whole)
    clock.passes(STILL)
    assert said(swept(tree)) == {"a": "one", "b": "one"}

    clock.write(tmp_path / "a.yaml", service("a", "two"))  # the first half of a longer file: valid, but shorter
    tree.look([str(tmp_path / "a.yaml")])
    assert not tree.settle()

    clock.write(tmp_path / "a.yaml", service("a", "two") + "---\n" + service("b", "two"))
    clock.passes(STILL)
    tree.look()
    assert not tree.waiting
    assert said(tree.settle()) == {"a": "two", "b": "two"}


def test_a_file_that_never_stands_still_is_read_in_the_end(tmp_path: Path) -> None:
    clock = Clock()
    tree = ManifestTree(tmp_path, wall=clock, ticks=clock)
    clock.write(tmp_path / "a.yaml", service("a"))
    tree.sweep()
    assert tree.waiting
    clock.passes(PATIENCE)
    clock.write(tmp_path / "a.yaml", service("a", "two"))
    tree.look()
    assert said(tree.settle()) == {"a": "two"}
    assert not tree.waiting


def test_a_stamp_from_the_future_does_not_make_us_wait(tmp_path: Path) -> None:
    clock = Clock()
    tree = ManifestTree(tmp_path, wall=clock, ticks=clock)
    clock.write(tmp_path / "a.yaml", service("a"))
    clock.passes(-3600)
    assert said(swept(tree)) == {"a": "one"}


def test_a_clock_that_is_set_back_does_not_make_us_wait(tmp_path: Path) -> None:
    wall, ticks = Clock(), Clock()
    tree = ManifestTree(tmp_path, wall=wall, ticks=ticks)
    wall.write(tmp_path / "a.yaml", service("a"))
    tree.sweep()
    assert tree.waiting
    wall.passes(-3600)
    tree.look()
    assert said(tree.settle()) == {"a": "one"}
    (tmp_path / "a.yaml").unlink()
    tree.look([str(tmp_path / "a.yaml")])
    wall.passes(-3600)
    ticks.passes(SETTLE)
    tree.look()
    assert said(tree.settle()) == {"a": None}


def test_a_waiting_file_that_is_deleted_is_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    tree = ManifestTree(tmp_path, wall=clock, ticks=clock)
    clock.write(tmp_path / "a.yaml", service("a"))
    tree.sweep()
    (tmp_path / "a.yaml").unlink()
    tree.look()
    assert not tree.waiting
    assert not tree.settle()


def test_an_editor_that_moves_the_old_file_aside_first_takes_nothing_off_the_air(tmp_path: Path) -> None:
    clock = Clock()
    tree = ManifestTree(tmp_path, wall=clock, ticks=clock)
    file = tmp_path / "a.yaml"
    clock.write(file, service("a"))
    clock.passes(STILL)
    assert said(swept(tree)) == {"a": "one"}

    file.rename(tmp_path / "a.yaml~")
    tree.look([str(file), str(tmp_path / "a.yaml~")])
    assert tree.due == SETTLE
    assert not tree.settle()
    clock.passes(STILL / 2)
    clock.write(file, "")
    tree.look([str(file)])
    assert not tree.settle()
    clock.passes(STILL / 2)
    clock.write(file, service("a", "two"))
    tree.look([str(file)])
    assert not tree.settle()
    clock.passes(STILL)
    tree.look()
    assert said(tree.settle()) == {"a": "two"}
    clock.passes(SETTLE)
    tree.look()
    assert not tree.settle()
    assert tree.due is None


def test_a_file_that_comes_back_as_it_was_never_went(tmp_path: Path) -> None:
    clock = Clock()
    tree = ManifestTree(tmp_path, wall=clock, ticks=clock)
    clock.write(tmp_path / "a.yaml", service("a"))
    clock.passes(STILL)
    swept(tree)
    (tmp_path / "a.yaml").rename(tmp_path / "away")
    tree.look([str(tmp_path / "a.yaml")])
    (tmp_path / "away").rename(tmp_path / "a.yaml")
    tree.sweep()
    clock.passes(SETTLE)
    tree.look()
    assert not tree.settle()
    assert tree.due is None


def test_a_file_that_stays_away_is_gone(tmp_path: Path) -> None:
    clock, tree = settled(tmp_path, service("a"))
    (tmp_path / "a.yaml").unlink()
    tree.sweep()
    assert not tree.settle()
    clock.passes(SETTLE - 0.001)
    tree.look()
    assert not tree.settle()
    assert tree.due == pytest.approx(0.001)
    clock.passes(0.001)
    tree.look()
    assert said(tree.settle()) == {"a": None}
    assert tree.due is None


def settled(root: Path, text: str) -> tuple[Clock, ManifestTree]:
    """A tree that has read ``a.yaml`` with this text, and its clock."""
    clock = Clock()
    tree = ManifestTree(root, wall=clock, ticks=clock)
    clock.write(root / "a.yaml", text)
    clock.passes(STILL)
    assert swept(tree)
    return clock, tree


def looks(tree: ManifestTree) -> dict[str, str | None]:
    """What a notification about ``a.yaml`` comes to."""
    tree.look([str(tree.root / "a.yaml")])
    return said(tree.settle())


@pytest.mark.parametrize("nothing", ["", "\n", "# to be written\n", "---\n", "kind: Foreign\napiVersion: v1\n"])
def test_a_file_that_is_emptied_and_written_again_takes_nothing_off_the_air(tmp_path: Path, nothing: str) -> None:
    """As ``kubectl get … > a.yaml`` does: the shell empties the file before kubectl has an answer."""
    clock, tree = settled(tmp_path, service("a") + "---\n" + service("b"))
    clock.write(tmp_path / "a.yaml", nothing)
    clock.passes(1)
    assert looks(tree) == {}
    clock.write(tmp_path / "a.yaml", service("a", "two") + "---\n" + service("b"))
    clock.passes(STILL)
    assert looks(tree) == {"a": "two"}
    clock.passes(SETTLE)
    assert looks(tree) == {}
    assert tree.due is None


def test_a_file_that_stays_empty_takes_its_objects_along(tmp_path: Path) -> None:
    clock, tree = settled(tmp_path, service("a"))
    clock.write(tmp_path / "a.yaml", "")
    clock.passes(STILL)
    assert looks(tree) == {}
    assert tree.due == SETTLE
    clock.passes(SETTLE)
    tree.look()
    assert said(tree.settle()) == {"a": None}
    assert tree.due is None


def test_a_file_that_is_filled_again_piece_by_piece_takes_nothing_off_the_air(tmp_path: Path) -> None:
    clock, tree = settled(tmp_path, "---\n".join(service(name) for name in "abc"))
    clock.write(tmp_path / "a.yaml", "")
    clock.passes(1.9)
    assert looks(tree) == {}
    text = ""
    for name in "abc":
        text += "---\n" + service(name, "two")
        clock.write(tmp_path / "a.yaml", text)
        clock.passes(1.9)
        assert looks(tree) == {name: "two"}
    clock.passes(SETTLE)
    tree.look()
    assert said(tree.settle()) == {}


def test_a_broken_file_between_an_empty_one_and_a_whole_one_changes_nothing(tmp_path: Path) -> None:
    clock, tree = settled(tmp_path, service("a") + "---\n" + service("b"))
    for text in ("", "kind: [Serv", service("a")):
        clock.write(tmp_path / "a.yaml", text)
        clock.passes(1)
        assert looks(tree) == {}
    clock.passes(SETTLE)
    tree.look()
    assert said(tree.settle()) == {"b": None}


def test_a_file_that_is_written_without_end_counts_in_the_end(tmp_path: Path) -> None:
    clock, tree = settled(tmp_path, service("a") + "---\n" + service("b"))
    clock.write(tmp_path / "a.yaml", "")
    clock.passes(STILL)
    assert looks(tree) == {}
    heard: dict[str, str | None] = {}
    for number in range(SETTLE_AT_MOST):
        assert "b" not in heard
        clock.write(tmp_path / "a.yaml", service("a", str(number)))
        clock.passes(SETTLE / 2)
        heard |= looks(tree)
        clock.write(tmp_path / "a.yaml", service("a", f"{number}."))
        clock.passes(SETTLE / 2)
        heard |= looks(tree)
    assert heard["b"] is None


def test_one_object_of_several_is_taken_out_at_once(tmp_path: Path) -> None:
    clock, tree = settled(tmp_path, service("a") + "---\n" + service("b"))
    clock.write(tmp_path / "a.yaml", service("a"))
    clock.passes(STILL)
    assert looks(tree) == {"b": None}


def test_a_file_that_is_renamed_changes_nothing(tmp_path: Path) -> None:
    clock, tree = settled(tmp_path, service("a"))
    (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
    for _ in range(2):
        tree.sweep()
        batch = tree.settle()
        assert not batch.changes
        assert not any(batch.problems.values())
        clock.passes(SETTLE)
    assert tree.due is None


def test_a_file_that_is_renamed_can_be_edited_at_once(tmp_path: Path) -> None:
    clock, tree = settled(tmp_path, service("a"))
    (tmp_path / "a.yaml").unlink()
    clock.write(tmp_path / "b.yaml", service("a", "two"))
    clock.passes(STILL)
    batch = swept(tree)
    assert said(batch) == {"a": "two"}
    assert batch.problems == {}


# ── watching, with the kernel's own notifications ─────────────────────────────────────────────────────────────────────
@contextmanager
def following(root: Path) -> Iterator[Iterator[Batch]]:
    stop = threading.Event()
    batches = follow(ManifestTree(root), stop)
    try:
        yield batches
    finally:
        stop.set()
        assert list(batches) == []


def until(batches: Iterator[Batch], wanted: dict[str, str | None]) -> None:
    """Read batches until together they said ``wanted``, and nothing else."""
    heard: dict[str, str | None] = {}
    while heard != wanted:
        heard |= said(next(batches))
        assert heard.items() <= wanted.items()


def replace(file: Path, text: str) -> None:
    """As an editor does: write beside it, rename over it."""
    beside = file.with_name(f".{file.name}.tmp")
    beside.write_text(text)
    beside.rename(file)


def test_the_first_batch_is_everything_even_if_that_is_nothing(tmp_path: Path) -> None:
    with following(tmp_path) as batches:
        assert not next(batches)
        (tmp_path / "a.yaml").write_text(service("a"))
        until(batches, {"a": "one"})


def test_edits_of_every_kind_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(service("a"))
    with following(tmp_path) as batches:
        until(batches, {"a": "one"})
        file.write_text(service("a", "written over"))
        until(batches, {"a": "written over"})
        replace(file, service("a", "renamed over"))
        until(batches, {"a": "renamed over"})
        with file.open("a") as more:
            more.write("---\n" + service("b", "appended"))
        until(batches, {"b": "appended"})
        file.rename(tmp_path / "moved.yaml")
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "c.yaml").write_text(service("c", "in a new directory"))
        until(batches, {"c": "in a new directory"})
        (tmp_path / "moved.yaml").unlink()
        until(batches, {"a": None, "b": None})
        shutil.rmtree(tmp_path / "new")
        until(batches, {"c": None})


def test_a_mounted_config_map_is_swapped_as_one(tmp_path: Path) -> None:
    """The kubelet writes a new directory and moves the ``..data`` link onto it; no file's own path gets an event."""

    def mount(stamp: str, app: str) -> None:
        payload = tmp_path / f"..{stamp}"
        payload.mkdir()
        (payload / "a.yaml").write_text(service("a", app))
        (payload / "b.yaml").write_text(service("b", app))
        (tmp_path / "..data_tmp").symlink_to(payload.name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    mount("2026_01", "first")
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    with following(tmp_path) as batches:
        until(batches, {"a": "first", "b": "first"})
        mount("2026_02", "second")
        shutil.rmtree(tmp_path / "..2026_01")
        until(batches, {"a": "second", "b": "second"})


def test_what_is_written_while_we_read_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    walk = ManifestTree._walk

    def walk_then_write(tree: ManifestTree) -> object:
        found = walk(tree)
        (tmp_path / "late.yaml").write_text(service("late"))
        return found

    monkeypatch.setattr(ManifestTree, "_walk", walk_then_write)
    with following(tmp_path) as batches:
        until(batches, {"a": "one", "late": "one"})


def test_without_a_watch_the_tree_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(module, "RustNotify", none_left)
    monkeypatch.setattr(module, "POLL", 0.02)
    with following(tmp_path) as batches:
        assert not next(batches)
        for app in ("one", "two", "three"):
            (tmp_path / "a.yaml").write_text(service("a", app))
            until(batches, {"a": app})
    assert len(caplog.records) == 1


def test_a_directory_put_in_place_of_the_watched_one_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP", 0.05)
    monkeypatch.setattr(module, "POLL", 0.02)
    root = tmp_path / "manifests"
    root.mkdir()
    (root / "a.yaml").write_text(service("a"))
    with following(root) as batches:
        until(batches, {"a": "one"})
        root.rename(tmp_path / "old")
        batch = next(batches)
        assert batch.changes == ()  # nothing was deleted: what it gave stays
        assert reasons(batch) == {"directory:": [Reason.UNREADABLE_FILE]}
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        (fresh / "a.yaml").write_text(service("a", "new"))
        fresh.rename(root)
        until(batches, {"a": "new"})
        (root / "b.yaml").write_text(service("b"))
        until(batches, {"b": "one"})


def test_the_loop_keeps_turning_and_a_failure_is_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "POLL", 0.01)
    fail = threading.Event()
    settle = ManifestTree.settle

    def settle_or_fail(tree: ManifestTree) -> Batch:
        if fail.is_set():
            fail.clear()
            raise RuntimeError("a bug")
        return settle(tree)

    monkeypatch.setattr(ManifestTree, "settle", settle_or_fail)

    async def story() -> None:
        source = manifests(tmp_path)
        assert not await anext(source)
        fail.set()
        (tmp_path / "a.yaml").write_text(service("a"))
        heard: dict[str, str | None] = {}
        while not heard:
            heard = said(await anext(source))
        assert heard == {"a": "one"}
        waiting = asyncio.ensure_future(anext(source))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await source.aclose()

    asyncio.run(story())
    assert "trying again" in caplog.text
