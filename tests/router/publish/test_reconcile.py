"""Changes in, published snapshots out; whatever fails, what serves stays and the next attempt catches up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from drycc_proxy.routing.definitions import Route, TableChange
from drycc_router.compile.compiler import Compiler
from drycc_router.compile.revision import Snapshot
from drycc_router.model.objects import Change, ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_router.model.quotas import CERTIFICATES
from drycc_router.publish import reconcile
from drycc_router.publish.publisher import Publisher
from drycc_router.publish.reconcile import Reconciler
from drycc_router.sources.batch import Batch
from drycc_tls.certificate import Certificate
from drycc_tls.secret import read_pair
from drycc_tls.self_signed import self_signed
from drycc_tls.store import CertificateStore
from drycc_tls.update import CertificateChange
from examples.authority import Authority
from tests.fakes import kube

AUTHORITY = Authority()
LIMIT = 20.0
"""Seconds after which a story has gone wrong."""


def service(name: str, domains: str = "a.localhost") -> Change:
    annotations = {"router.drycc.cc/domains": domains}
    metadata = {
        "name": name,
        "namespace": "shop",
        "labels": {"router.drycc.cc/routable": "true"},
        "annotations": annotations,
    }
    raw: dict[str, Any] = {"metadata": metadata, "spec": {"ports": [{"name": "http", "port": 80}]}}
    return Change(ObjectKey("Service", "shop", name), raw)


class Gateway:
    """Keeps what is published; fails when told to."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.hosts: set[bytes] = set()
        self.changes: list[TableChange] = []
        self.fails = 0

    def publish(self, change: TableChange) -> None:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("not this time")
        self.changes.append(change)
        self.routes = {n: r for n, r in self.routes.items() if n not in change.gone_routes} | dict(change.routes)
        self.hosts = (self.hosts - change.gone_hosts) | change.hosts.keys()


class Stage:
    """A reconciler with a source that says what the story says."""

    def __init__(self, compiler: Compiler | None = None, clock: Callable[[], float] = lambda: 1_800_000_000.0) -> None:
        self.gateway = Gateway()
        store = CertificateStore(self_signed(datetime(2026, 1, 1, tzinfo=UTC)))
        self.compiler = compiler or Compiler(trusted_endpoints=True)
        self.reconciler = Reconciler(self.compiler, Publisher(store, self.gateway), clock=clock)
        self._batches: asyncio.Queue[Batch] = asyncio.Queue()

    def says(self, *changes: Change, **problems: tuple[Problem, ...]) -> None:
        self.hears(Batch(changes, problems))

    def hears(self, batch: Batch) -> None:
        self._batches.put_nowait(batch)

    async def _source(self) -> AsyncIterator[Batch]:
        while True:
            yield await self._batches.get()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 - plain attributes are watched; LIMIT bounds it
            await asyncio.sleep(0.001)

    async def attempts(self, number: int) -> None:
        """Until that many compiles were done or given up."""
        stages = self.reconciler.stages
        await self.until(lambda: sum(stages["compile"].counts) + self.reconciler.failures >= number)

    def plays(self, story: Callable[[Stage], Awaitable[None]]) -> None:
        async def play() -> None:
            async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.reconciler.listen(self._source()), name="source"),
                    group.create_task(self.reconciler.run(), name="reconcile"),
                ]
                await story(self)
                for task in tasks:
                    task.cancel()

        asyncio.run(play())


class Noted:
    """A reader that keeps what it was told to foresee, and what it was asked."""

    def __init__(self) -> None:
        self.foreseen: list[Mapping[str, bytes]] = []
        self.asked: list[Mapping[str, bytes]] = []
        self.caught_up: list[int] = []
        """How much had been asked by each of these times."""
        self.told = ""

    def foresee(self, data: Mapping[str, bytes]) -> None:
        self.foreseen.append(data)
        self.told = threading.current_thread().name

    def catch_up(self) -> None:
        self.caught_up.append(len(self.asked))

    def read(self, data: Mapping[str, bytes]) -> Certificate:
        self.asked.append(data)
        return read_pair(data)


def test_certificates_of_the_first_table_are_foreseen_on_the_loop_and_no_others() -> None:
    reader = Noted()
    pairs = [AUTHORITY.issue("shop.example") for _ in range(3)]
    shop = kube.service("shop/web", {"domains": "shop.example", "certificates": "shop.example:own"})

    async def story(stage: Stage) -> None:
        stage.hears(Batch((shop, kube.secret("shop/own-cert", pairs[0])), is_part=True))
        await stage.until(lambda: len(reader.foreseen) == 1)
        stage.hears(Batch((kube.secret("shop/own-cert", pairs[1]),)))
        await stage.reconciler.published.wait()
        assert [each["tls.key"] for each in reader.foreseen] == [pair.key for pair in pairs[:2]]
        assert [each["tls.key"] for each in reader.asked] == [pairs[1].key]
        assert reader.told == threading.main_thread().name
        assert reader.caught_up == [0]

        stage.says(kube.secret("shop/own-cert", pairs[2]))
        await stage.attempts(2)
        assert len(reader.foreseen) == 2
        assert [each["tls.key"] for each in reader.asked] == [pair.key for pair in pairs[1:]]

    Stage(Compiler(trusted_endpoints=True, reader=reader)).plays(story)


def test_no_more_is_foreseen_of_a_namespace_than_it_may_have() -> None:
    reader = Noted()
    pair = AUTHORITY.issue("shop.example")

    async def story(stage: Stage) -> None:
        stage.says(*(kube.secret(f"{each}/{number}-cert", pair) for number in range(CERTIFICATES + 9) for each in "ab"))
        await stage.reconciler.published.wait()
        assert len(reader.foreseen) == 2 * CERTIFICATES

    Stage(Compiler(trusted_endpoints=False, reader=reader)).plays(story)


def test_the_first_batch_is_published_even_if_it_is_empty() -> None:
    async def story(stage: Stage) -> None:
        assert not stage.reconciler.published.is_set()
        stage.says()
        await stage.reconciler.published.wait()
        assert stage.reconciler.succeeded
        assert stage.reconciler.snapshot is not None
        assert stage.reconciler.applied_at == 1_800_000_000.0
        assert len(stage.gateway.changes) == 1

    Stage().plays(story)


def test_nothing_is_published_before_the_source_has_told_everything() -> None:
    """Hardening R-02: neither what it told in parts, nor a complaint of a part of ours, makes a router ready."""
    applied = threading.Event()

    class Watched(Compiler):
        def apply(self, change: Change) -> bool:
            applied.set()
            return super().apply(change)

    async def story(stage: Stage) -> None:
        about = ObjectKey("Deployment", "drycc", "drycc-router")
        stage.reconciler.complain("rights", (Problem(Reason.NOT_PERMITTED, about, "", "", "expected a right"),))
        stage.hears(Batch((service("early", "early.localhost"),), is_part=True))
        await stage.until(applied.is_set)
        assert not stage.reconciler.published.is_set()
        assert not stage.gateway.changes
        stage.says(service("late", "late.localhost"))
        await stage.reconciler.published.wait()
        assert stage.gateway.hosts == {b"early.localhost", b"late.localhost"}
        assert stage.reconciler.snapshot is not None
        assert Reason.NOT_PERMITTED in {problem.reason for problem in stage.reconciler.snapshot.problems}
        stage.reconciler.complain("rights", ())
        await stage.attempts(2)
        assert Reason.NOT_PERMITTED not in {problem.reason for problem in stage.reconciler.snapshot.problems}

    Stage(Watched(trusted_endpoints=True)).plays(story)


def test_a_storm_becomes_one_compile() -> None:
    async def story(stage: Stage) -> None:
        for number in range(50):
            stage.says(service(f"app-{number}", f"app-{number}.localhost"))
        await stage.reconciler.published.wait()
        assert len(stage.gateway.changes) == 1
        assert len(stage.gateway.hosts) == 50

    Stage().plays(story)


def test_a_storm_without_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "HOLD_OFF", LIMIT)
    monkeypatch.setattr(reconcile, "CEILING", 0.05)

    async def story(stage: Stage) -> None:
        number = 0
        while not stage.reconciler.published.is_set():
            stage.says(service(f"app-{number}", f"app-{number}.localhost"))
            number += 1
            await asyncio.sleep(0.001)
        assert stage.gateway.hosts

    Stage().plays(story)


def test_what_changes_nothing_is_not_published() -> None:
    async def story(stage: Stage) -> None:
        stage.says(service("a"))
        await stage.attempts(1)
        stage.says(Change(ObjectKey("ConfigMap", "shop", "unrelated"), {"data": {"x": "y"}}))
        await stage.attempts(2)
        await stage.until(lambda: stage.reconciler.succeeded)
        assert len(stage.gateway.changes) == 1

    Stage().plays(story)


def test_each_stage_is_timed() -> None:
    async def story(stage: Stage) -> None:
        stage.says(service("a"))
        await stage.reconciler.published.wait()
        assert {name: sum(stage.counts) for name, stage in stage.reconciler.stages.items()} == {
            "compile": 1,
            "certificates": 1,
            "publish": 1,
        }

    Stage().plays(story)


class Failing(Compiler):
    """Fails to compile, or to take one object, when told to."""

    def __init__(self) -> None:
        super().__init__(trusted_endpoints=True)
        self.fails = 0
        self.refuses = ""

    def apply(self, change: Change) -> bool:
        if change.key.name == self.refuses:
            raise RuntimeError("a bug")
        return super().apply(change)

    def compile(self, now: datetime) -> Snapshot:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("a bug")
        return super().compile(now)


def test_after_a_failed_compile_the_last_good_table_stays_and_the_next_change_brings_both(
    caplog: pytest.LogCaptureFixture,
) -> None:
    compiler = Failing()

    async def story(stage: Stage) -> None:
        stage.says(service("a"))
        await stage.reconciler.published.wait()
        compiler.fails = 1
        stage.says(service("b", "b.localhost"))
        await stage.until(lambda: stage.reconciler.failures == 1)
        assert not stage.reconciler.succeeded
        assert stage.gateway.hosts == {b"a.localhost"}
        stage.says(service("c", "c.localhost"))
        await stage.until(lambda: stage.reconciler.succeeded)
        assert stage.gateway.hosts == {b"a.localhost", b"b.localhost", b"c.localhost"}

    Stage(compiler).plays(story)
    assert "what was published before stays" in caplog.text


def test_an_object_that_cannot_be_taken_does_not_keep_the_others_out(caplog: pytest.LogCaptureFixture) -> None:
    compiler = Failing()
    compiler.refuses = "b"

    async def story(stage: Stage) -> None:
        stage.says(service("a"), service("b", "b.localhost"), service("c", "c.localhost"))
        await stage.reconciler.published.wait()
        assert stage.gateway.hosts == {b"a.localhost", b"c.localhost"}

    Stage(compiler).plays(story)
    assert "Service shop/b was passed over" in caplog.text


def test_a_failed_publish_is_tried_again_without_any_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "RETRY", 0.01)

    async def story(stage: Stage) -> None:
        stage.gateway.fails = 2
        stage.says(service("a"))
        await stage.reconciler.published.wait()
        assert stage.reconciler.failures == 2
        assert stage.gateway.hosts == {b"a.localhost"}

    Stage().plays(story)


def test_certificates_are_judged_again_as_time_goes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "REVIEW", 0.01)
    times: list[datetime] = []
    ticks = iter(range(1_800_000_000, 1_900_000_000, 86_400))

    class Noting(Compiler):
        def compile(self, now: datetime) -> Snapshot:
            times.append(now)
            return super().compile(now)

    async def story(stage: Stage) -> None:
        stage.says()
        await stage.until(lambda: len(times) >= 3)
        assert times[0] < times[1] < times[2]
        assert times[0].tzinfo is UTC

    Stage(Noting(trusted_endpoints=True), clock=lambda: float(next(ticks))).plays(story)


def test_the_loop_turns_while_a_compile_takes_its_time() -> None:
    began, turned = threading.Event(), threading.Event()

    class Slow(Compiler):
        def compile(self, now: datetime) -> Snapshot:
            began.set()
            assert turned.wait(LIMIT)
            return super().compile(now)

    async def story(stage: Stage) -> None:
        stage.says()
        await stage.until(began.is_set)  # on the loop, this would never be seen to be true
        turned.set()
        await stage.reconciler.published.wait()

    Stage(Slow(trusted_endpoints=True)).plays(story)


def test_a_problem_is_told_when_it_comes_and_when_it_goes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    problem = Problem(Reason.UNREADABLE_FILE, ObjectKey("File", "", "a.yaml"), "", "", "line 3: no colon")

    async def story(stage: Stage) -> None:
        stage.says(a=(problem,))
        await stage.reconciler.published.wait()
        stage.says(service("a"))
        await stage.attempts(2)
        stage.says(a=())
        await stage.attempts(3)
        await stage.until(lambda: not stage.reconciler.snapshot or problem not in stage.reconciler.snapshot.problems)

    Stage().plays(story)
    told = [record.getMessage() for record in caplog.records if "a.yaml" in record.getMessage()]
    assert told == [str(problem), f"mended: {problem}"]


def test_a_flood_of_problems_is_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    flood = tuple(
        Problem(Reason.UNREADABLE_FILE, ObjectKey("File", "", f"{number:02}.yaml"), "", "", "broken")
        for number in range(reconcile.TOLD + 5)
    )

    async def story(stage: Stage) -> None:
        stage.says(a=flood)
        await stage.reconciler.published.wait()

    Stage().plays(story)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == reconcile.TOLD + 1
    assert told[-1] == "and 5 more that came or went: see /problems"


def test_a_certificate_that_only_openssl_refuses_becomes_a_problem_until_it_is_mended() -> None:
    pairs = [self_signed(datetime(2026, 1, 1, tzinfo=UTC)) for _ in range(2)]
    mixed = replace(pairs[0], fingerprint="mixed", key_pem=pairs[1].key_pem)

    class Handing(Compiler):
        """Judges every pair good and hands it down."""

        pair = mixed

        def compile(self, now: datetime) -> Snapshot:
            snapshot = super().compile(now)
            certificates = CertificateChange(snapshot.generation, {"shop/web-cert": self.pair})
            return replace(snapshot, certificates=certificates, changed=True)

    compiler = Handing(trusted_endpoints=True)

    async def story(stage: Stage) -> None:
        def found() -> list[str]:
            snapshot = stage.reconciler.snapshot
            return [str(problem.object) for problem in snapshot.problems] if snapshot else []

        stage.says()
        await stage.until(lambda: found() == ["Secret shop/web-cert"])
        compiler.pair = pairs[0]
        stage.says()
        await stage.until(lambda: found() == [])

    Stage(compiler).plays(story)


def test_listeners_hear_every_snapshot_in_order_and_what_the_process_says_of_itself_is_a_problem() -> None:
    stage_heard: list[Snapshot] = []
    problem = Problem(Reason.NOT_PERMITTED, ObjectKey("Lease", "drycc", "drycc-router"), "", "get", "expected a right")

    async def story(stage: Stage) -> None:
        stage.reconciler.listeners.append(stage_heard.append)
        stage.says(service("web"))
        await stage.until(lambda: len(stage_heard) == 1)
        stage.reconciler.complain("feedback:lease", (problem,))
        await stage.until(lambda: len(stage_heard) == 2)
        assert stage.reconciler.snapshot is stage_heard[-1]
        stage.reconciler.complain("feedback:lease", ())
        await stage.until(lambda: len(stage_heard) == 3)

    Stage().plays(story)
    assert [problem in snapshot.problems for snapshot in stage_heard] == [False, True, False]


def test_what_only_openssl_refuses_and_finds_out_late_is_a_problem() -> None:
    class Reluctant(Publisher):
        late: frozenset[str] = frozenset()

        @property
        def refused(self) -> frozenset[str]:
            return self.late

    async def story(stage: Stage) -> None:
        stage.says(service("app"))
        await stage.reconciler.published.wait()
        publisher.late = frozenset({"shop/pair"})
        publisher.refusals()
        await stage.attempts(2)
        assert stage.reconciler.snapshot is not None
        [problem] = [each for each in stage.reconciler.snapshot.problems if each.reason is Reason.CERTIFICATE_BAD]
        assert problem.object == ObjectKey("Secret", "shop", "pair")

    stage = Stage()
    publisher = Reluctant(CertificateStore(self_signed(datetime(2026, 1, 1, tzinfo=UTC))), stage.gateway)
    stage.reconciler = Reconciler(stage.compiler, publisher, clock=lambda: 1_800_000_000.0)
    stage.plays(story)


def test_an_address_that_everybody_comes_from_is_a_problem_of_the_router_until_that_is_over() -> None:
    async def story(stage: Stage) -> None:
        stage.says(service("app"))
        await stage.reconciler.published.wait()
        publisher.note_peer("10.0.0.1")
        await stage.attempts(2)
        assert stage.reconciler.snapshot is not None
        [problem] = [each for each in stage.reconciler.snapshot.problems if each.reason is Reason.ONE_PEER]
        assert problem.object == ObjectKey("Deployment", "drycc", "drycc-router")
        assert (problem.key, problem.value) == ("proxyRealIpCidrs", "10.0.0.1")
        publisher.note_peer("")
        await stage.attempts(3)
        assert Reason.ONE_PEER not in [each.reason for each in stage.reconciler.snapshot.problems]

    stage = Stage()
    publisher = Publisher(CertificateStore(self_signed(datetime(2026, 1, 1, tzinfo=UTC))), stage.gateway)
    stage.reconciler = Reconciler(stage.compiler, publisher, clock=lambda: 1_800_000_000.0)
    stage.plays(story)


# ── one owner's storm ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_another_namespace_s_change_does_not_wait_for_all_of_one_owner_s() -> None:
    """A hundred slices of a thousand endpoints are waiting; the other one is in the very next table."""

    class Counting(Compiler):
        def __init__(self) -> None:
            super().__init__(trusted_endpoints=False)
            self.noted: list[list[str]] = [[]]

        def apply(self, change: Change) -> bool:
            self.noted[-1].append(change.key.namespace)
            return super().apply(change)

        def compile(self, now: datetime) -> Snapshot:
            self.noted.append([])
            return super().compile(now)

    compiler = Counting()
    stage = Stage(compiler)

    async def story(stage: Stage) -> None:
        stage.says(kube.service("evil/web", {"domains": "evil.example"}))
        await stage.attempts(1)
        crowd = [f"10.7.{number // 250}.{number % 250}" for number in range(1000)]
        stage.says(*(kube.endpoints("evil/web", *crowd, slice_=str(number)) for number in range(100)))
        await stage.attempts(3)
        rounds = len(compiler.noted)
        stage.says(kube.service("shop/web", {"domains": "shop.example"}), kube.endpoints("shop/web", "10.0.0.1"))
        await stage.until(lambda: b"shop.example" in stage.gateway.hosts)
        waited = compiler.noted[rounds - 1 :]
        first = next(number for number, noted in enumerate(waited) if "shop" in noted)
        assert first <= 2, "the round under way, and one for which it came a moment too late"
        assert len(waited[first]) <= 5
        assert waited[first][:2] == ["shop", "shop"]
        await stage.until(lambda: sum(map(len, compiler.noted)) == 103)

    stage.plays(story)
    assert max(map(len, compiler.noted)) <= 5


def test_what_waits_for_its_turn_is_compiled_without_further_news() -> None:
    async def story(stage: Stage) -> None:
        stage.says()
        await stage.attempts(1)
        names = ",".join(f"n{number}.shop.example" for number in range(400))
        stage.says(
            *(kube.service(f"shop-{number}/web", {"domains": f"a{number}.example,{names}"}) for number in range(9))
        )
        await stage.until(lambda: {f"a{number}.example".encode() for number in range(9)} <= stage.gateway.hosts)
        assert sum(stage.reconciler.stages["compile"].counts) > 3

    Stage(Compiler(trusted_endpoints=False)).plays(story)
