"""Flaws: machine names that metrics can rely on, and sentences that cannot quote."""

import re

import pytest

from drycc_tls.errors import BadCertificate, Flaw, TlsError


@pytest.mark.parametrize("flaw", Flaw)
def test_a_flaw_has_a_machine_name_and_a_sentence_that_says_what_was_expected(flaw: Flaw) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", flaw.value)
    assert flaw.sentence.startswith("expected ")


def test_the_error_shows_nothing_but_the_flaw() -> None:
    bad = BadCertificate(Flaw.MISMATCH)

    assert isinstance(bad, TlsError)
    assert (bad.reason, bad.message) == ("certificate_mismatch", Flaw.MISMATCH.sentence)
    assert str(bad) == bad.message
