"""Lines about objects: what is new costs what is new, what is gone is shown once more, and many are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from drycc_router.admin import object_series
from drycc_router.admin.exposition import Family, text
from drycc_router.admin.object_series import CertificateSeries, ProblemSeries
from drycc_router.compile.revision import CertificateReport, Role
from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Problem, Reason
from drycc_tls.self_signed import self_signed

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def problem(name: str, reason: Reason = Reason.BAD_VALUE, key: str = "bodySize") -> Problem:
    return Problem(reason, ObjectKey("Service", "shop", name), key, "ten", "expected a size")


def page(series: ProblemSeries, *problems: Problem) -> dict[tuple[str, ...], float]:
    series.write(problems)
    return read(series.family())


def read(family: Family) -> dict[tuple[str, ...], float]:
    """The values of the labels, by their names → the value of the sample."""
    page = text([family], openmetrics=False).decode()
    return {
        tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value
        for metric in text_string_to_metric_families(page)
        for sample in metric.samples
    }


def test_problems_are_counted_by_object_and_reason() -> None:
    series = ProblemSeries(10)
    two = (
        problem("web"),
        problem("web", key="domains"),
        problem('"', Reason.NO_PORT),
        problem("web", Reason.NO_EFFECT),
    )
    assert page(series, *two) == {("web", "shop", "bad_value"): 2, ('"', "shop", "no_port"): 1}
    assert page(series, *two[1:2]) == {("web", "shop", "bad_value"): 1, ('"', "shop", "no_port"): 0}
    assert page(series, *two[1:2]) == {("web", "shop", "bad_value"): 1}
    assert page(series) == {("web", "shop", "bad_value"): 0}
    for _ in range(2):
        assert page(series, *two[:1]) == {("web", "shop", "bad_value"): 1}
    # Whether somebody read it in between: what came to nothing is shown, and what came back is there.
    series.write(())
    assert page(series, *two[:1]) == page(series, *two[:1]) == {("web", "shop", "bad_value"): 1}
    series.write(())
    assert page(series) == {("web", "shop", "bad_value"): 0}
    assert series.folded == 0


def test_one_that_is_said_anew_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    series = ProblemSeries(10)
    assert page(series, problem("web")) == {("web", "shop", "bad_value"): 1}
    assert page(series, problem("web")) == {("web", "shop", "bad_value"): 1}


def test_what_is_new_costs_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    series, many = ProblemSeries(10**6), tuple(problem(f"{number:04}") for number in range(2000))
    page(series, *many)
    written: list[tuple[str, ...]] = []
    line = object_series._line

    def noted(name: str, labels: str, key: tuple[str, str, str], value: float) -> bytes:
        written.append(key)
        return line(name, labels, key, value)

    monkeypatch.setattr(object_series, "_line", noted)
    assert len(page(series, *many[:7], *many[8:], problem("new"))) == 2001
    assert sorted(written) == [("shop", "0007", "bad_value"), ("shop", "new", "bad_value")]


def test_problems_beyond_the_budget_are_one_for_each_reason() -> None:
    series = ProblemSeries(2)
    a, b, c, d = (problem(name) for name in "abcd")
    e = problem("e", Reason.NO_PORT)

    def seen(problems: Sequence[Problem]) -> dict[tuple[str, ...], float]:
        return {(name, reason): value for (name, _, reason), value in page(series, *problems).items()}

    own = {("a", "bad_value"): 1.0, ("b", "bad_value"): 1.0}
    assert seen((a, b)) == own
    assert seen((a, b, c, d, e)) == own | {("other", "bad_value"): 2, ("other", "no_port"): 1}
    assert seen((a, c, d)) == own | {("b", "bad_value"): 0, ("other", "bad_value"): 2, ("other", "no_port"): 0}
    # Its room is for who comes next, not for who was folded.
    assert seen((a, c, d, e)) == {("a", "bad_value"): 1, ("e", "no_port"): 1, ("other", "bad_value"): 2}
    assert seen((a, e)) == {("a", "bad_value"): 1, ("e", "no_port"): 1, ("other", "bad_value"): 0}
    assert seen((a, e)) == {("a", "bad_value"): 1, ("e", "no_port"): 1}
    assert series.folded == 3


def test_certificates_beyond_the_budget_are_the_one_that_ends_first() -> None:
    series, pair = CertificateSeries(1), self_signed(NOW)

    def served(*days: int) -> dict[str, CertificateReport]:
        return {
            str(number): CertificateReport(
                "shop", str(number), replace(pair, not_after=NOW + timedelta(days=each)), (), Role.OWN
            )
            for number, each in enumerate(days)
        }

    def seen(reports: dict[str, CertificateReport]) -> dict[str, float]:
        return {secret: value for (_, _, secret), value in read(series.family(reports)).items()}

    assert seen(served(9)) == {"0": (NOW + timedelta(days=9)).timestamp()}
    both = served(9, 8, 7)
    assert seen(both) == {"0": (NOW + timedelta(days=9)).timestamp(), "other": (NOW + timedelta(days=7)).timestamp()}
    assert series.family(both).lines is series.family(both).lines, "the same certificates are not written again"
    assert seen(served(9)) == {"0": (NOW + timedelta(days=9)).timestamp()}
    assert series.folded == 2
