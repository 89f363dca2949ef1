"""Changes: plain data that carries keys without showing them, and that can be shipped to another process."""

import pickle

from drycc_tls.policy import TlsPolicy
from drycc_tls.secret import read_pair
from drycc_tls.update import CertificateChange
from examples.authority import Authority

CERTIFICATE = read_pair(Authority().issue("shop.example").secret_data())


def test_nothing_is_the_default_for_all_but_the_generation() -> None:
    change = CertificateChange(7)

    assert not (change.certificates or change.gone or change.names or change.gone_names)
    assert change.default is None
    assert change.policy is None


def test_a_change_survives_the_way_to_another_process_and_shows_no_key() -> None:
    change = CertificateChange(
        1, {"shop/web": CERTIFICATE}, names={"shop.example": "shop/web"}, default="shop/web", policy=TlsPolicy()
    )

    assert pickle.loads(pickle.dumps(change)) == change  # noqa: S301 -- our own bytes
    assert "shop.example" in repr(change)
    assert "PRIVATE KEY" not in repr(change)
