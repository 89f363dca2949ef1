"""Secrets become certificates once per version; a bad one keeps the last good pair; the clock has its say."""

from datetime import UTC, datetime, timedelta

import pytest

from drycc_router.compile.certificates import Pairs, judge, next_judgement
from drycc_router.model.cluster import Cluster
from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import Reason
from drycc_router.translate.references import candidates
from drycc_tls.secret import read_pair
from examples.authority import Authority
from tests.fakes.kube import gone, secret

AUTHORITY = Authority()
GOOD = AUTHORITY.issue("shop.example")
START = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ObjectKey("Secret", "shop", "shop-cert")


def cluster_with(name: str = "shop/shop-cert") -> tuple[Cluster, Pairs]:
    cluster = Cluster()
    cluster.apply(secret(name, GOOD))
    return cluster, Pairs(cluster)


def test_a_good_secret_is_read_once_per_version() -> None:
    cluster, pairs = cluster_with()
    first = pairs.get(KEY)

    assert first is not None
    assert first.certificate is not None
    assert first.certificate.names == ("shop.example",)
    assert first.problem is None
    cluster.apply(secret("shop/shop-cert", GOOD))
    assert pairs.get(KEY) is first


def test_a_bad_version_keeps_the_last_good_pair_and_quotes_nothing() -> None:
    cluster, pairs = cluster_with()
    good = pairs.get(KEY)
    assert good is not None

    cluster.apply(secret("shop/shop-cert", None))
    pair = pairs.get(KEY)

    assert pair is not None
    assert pair.certificate == good.certificate
    assert pair.problem is not None
    assert pair.problem.reason is Reason.CERTIFICATE_BAD
    assert "stays in use" in pair.problem.message
    assert "canary" not in repr(pair)


def test_a_secret_that_never_was_good_has_no_certificate() -> None:
    cluster = Cluster()
    cluster.apply(secret("shop/shop-cert", None))

    pair = Pairs(cluster).get(KEY)

    assert pair is not None
    assert pair.certificate is None
    assert pair.problem is not None
    assert "stays in use" not in pair.problem.message


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_secret_that_was_gone_or_unused_begins_anew(forgotten: bool) -> None:
    cluster, pairs = cluster_with()
    pairs.get(KEY)

    if forgotten:
        pairs.forget(KEY)
    else:
        cluster.apply(gone(secret("shop/shop-cert", GOOD)))
        assert pairs.get(KEY) is None
    cluster.apply(secret("shop/shop-cert", None))

    pair = pairs.get(KEY)
    assert pair is not None
    assert pair.certificate is None


def test_a_mapping_means_the_first_of_three_secrets_that_is_there() -> None:
    cluster, pairs = cluster_with("shop/shop")
    assert pairs.chosen("shop", "shop") == ObjectKey("Secret", "shop", "shop")
    cluster.apply(secret("shop/shop-certificate", GOOD))
    assert pairs.chosen("shop", "shop") == ObjectKey("Secret", "shop", "shop-certificate")
    cluster.apply(secret("shop/shop-cert", GOOD))
    assert pairs.chosen("shop", "shop") == KEY
    assert pairs.chosen("other", "shop") is None
    assert candidates("shop", "shop")[0] == KEY


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        (-1, Reason.CERTIFICATE_NOT_YET_VALID),
        (1, None),
        (75, None),
        (77, Reason.CERTIFICATE_EXPIRES_SOON),
        (89, Reason.CERTIFICATE_EXPIRES_SOON),
        (91, Reason.CERTIFICATE_EXPIRED),
    ],
)
def test_what_the_clock_says(day: int, reason: Reason | None) -> None:
    pair = AUTHORITY.issue("shop.example", start=START, days=90)
    certificate = read_pair({"tls.crt": pair.chain, "tls.key": pair.key})

    problems = judge(KEY, certificate, START + timedelta(days=day))

    assert [problem.reason for problem in problems] == ([reason] if reason else [])


def test_the_next_judgement_is_when_something_else_will_be_said() -> None:
    pair = AUTHORITY.issue("shop.example", start=START, days=90)
    certificate = read_pair({"tls.crt": pair.chain, "tls.key": pair.key})

    moment: datetime | None = START - timedelta(days=10)
    said = []
    while moment is not None:
        said.append([problem.reason for problem in judge(KEY, certificate, moment)])
        following = next_judgement(certificate, moment + timedelta(seconds=1))
        moment = following and following + timedelta(seconds=1)

    assert said == [
        [Reason.CERTIFICATE_NOT_YET_VALID],
        [],
        [Reason.CERTIFICATE_EXPIRES_SOON],
        [Reason.CERTIFICATE_EXPIRED],
    ]
