"""Policies: checked when made, so that no handshake meets nonsense."""

import pytest

from drycc_tls.policy import CIPHERS, TlsPolicy, Version


def test_the_default_is_both_versions_and_forward_secret_aead_ciphers() -> None:
    policy = TlsPolicy()

    assert (policy.minimum, policy.maximum) == (Version.TLS_1_2, Version.TLS_1_3)
    assert policy.session_tickets
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "POLY1305" in name) for name in policy.ciphers)


def test_versions_upside_down_are_refused() -> None:
    with pytest.raises(ValueError, match="above the maximum"):
        TlsPolicy(minimum=Version.TLS_1_3, maximum=Version.TLS_1_2)


@pytest.mark.parametrize("ciphers", [(), ("AES128-SHA",), (*CIPHERS, "ALL"), ("@SECLEVEL=0",)])
def test_ciphers_that_are_weak_or_unknown_or_none_are_refused(ciphers: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="CIPHERS"):
        TlsPolicy(ciphers=ciphers)
