"""The certificate of last resort."""

from datetime import UTC, datetime, timedelta

from drycc_tls.self_signed import NAME, self_signed

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_it_covers_nothing_that_can_be_routed_and_outlives_any_process() -> None:
    certificate = self_signed(NOW)

    assert certificate.names == (NAME,)
    assert certificate.subject == certificate.issuer
    assert certificate.not_before < NOW - timedelta(hours=1)
    assert certificate.not_after > NOW + timedelta(days=3000)


def test_each_start_makes_its_own() -> None:
    assert self_signed(NOW).key_pem != self_signed(NOW).key_pem
