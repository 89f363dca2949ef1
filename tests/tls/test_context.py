"""Contexts: what is spoken on the wire, shown by handshakes, and that no key ever touches a disk."""

import dataclasses
import os
import ssl
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from drycc_tls import context
from drycc_tls.certificate import Certificate
from drycc_tls.policy import CIPHERS, CIPHERS_1_3, TlsPolicy, Version
from drycc_tls.secret import read_pair
from examples.authority import Authority, SigningKey
from tests.fakes.handshakes import Ends, shake, trusting
from tests.fakes.rsa_keys import without_primes

AUTHORITY = Authority()
CERTIFICATE = read_pair(AUTHORITY.issue("shop.example").secret_data())
DEFAULT = TlsPolicy()
V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def meet(client: ssl.SSLContext, policy: TlsPolicy = DEFAULT, certificate: Certificate = CERTIFICATE) -> Ends:
    """A handshake that begins with the listening context and switches, as in ``sni``."""
    listening, presenting = context.listening(policy), context.presenting(certificate, policy)

    def switch(connection: ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
        connection.context = presenting

    listening.sni_callback = switch
    return shake(listening, client, "shop.example")


def cipher_of(ends: Ends) -> str | None:
    cipher = ends.client.cipher()
    return cipher[0] if cipher else None


@pytest.mark.parametrize(("version", "spoken"), [(V1_2, "TLSv1.2"), (V1_3, "TLSv1.3"), (None, "TLSv1.3")])
def test_both_versions_are_spoken_the_newer_one_first(version: ssl.TLSVersion | None, spoken: str) -> None:
    ends = meet(trusting(AUTHORITY, version))

    assert ends.client.version() == spoken
    assert ends.client.compression() is None


@pytest.mark.filterwarnings("ignore:.*TLSv1.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_are_refused(version: ssl.TLSVersion) -> None:
    client = trusting(AUTHORITY, version)
    client.set_ciphers("@SECLEVEL=0:ALL")

    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        meet(client)


@pytest.mark.parametrize(
    ("policy", "version"),
    [(TlsPolicy(minimum=Version.TLS_1_3), V1_2), (TlsPolicy(maximum=Version.TLS_1_2), V1_3)],
)
def test_a_narrower_policy_holds(policy: TlsPolicy, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError):
        meet(trusting(AUTHORITY, version), policy)


@pytest.mark.parametrize(
    "cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "AECDH-NULL-SHA"]
)
def test_ciphers_without_forward_secrecy_or_authenticated_encryption_are_refused(cipher: str) -> None:
    client = trusting(None, V1_2)
    client.set_ciphers(f"@SECLEVEL=0:{cipher}")

    with pytest.raises(ssl.SSLError):
        meet(client)


@pytest.mark.parametrize("wanted", [cipher for cipher in CIPHERS if "ECDSA" in cipher])
def test_the_router_prefers_but_takes_each_of_its_ciphers(wanted: str) -> None:
    picky, open_minded = trusting(AUTHORITY, V1_2), trusting(AUTHORITY, V1_2)
    picky.set_ciphers(wanted)
    open_minded.set_ciphers(":".join(reversed(CIPHERS)))

    assert cipher_of(meet(picky)) == wanted
    assert cipher_of(meet(open_minded)) == CIPHERS[0]


def test_the_order_of_ciphers_is_the_policy_s() -> None:
    policy = TlsPolicy(ciphers=tuple(reversed(CIPHERS)))

    assert cipher_of(meet(trusting(AUTHORITY, V1_2), policy)) == "ECDHE-ECDSA-CHACHA20-POLY1305"


def test_the_ciphers_of_tls_1_3_are_what_the_policy_says_they_are() -> None:
    on = {cipher["name"] for cipher in context.listening(DEFAULT).get_ciphers() if cipher["protocol"] == "TLSv1.3"}

    assert on == set(CIPHERS_1_3)


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), (["spdy/3"], None), ([], None)]
)
def test_http_1_1_is_the_only_protocol_ever_agreed_on(offered: list[str], chosen: str | None) -> None:
    client = trusting(AUTHORITY)
    if offered:
        client.set_alpn_protocols(offered)

    assert meet(client).client.selected_alpn_protocol() == chosen


@pytest.mark.parametrize("curve", ["prime256v1", "secp384r1"])
def test_clients_without_x25519_are_served(curve: str) -> None:
    client = trusting(AUTHORITY)
    client.set_ecdh_curve(curve)

    assert meet(client).names_shown() == ["shop.example"]


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa", "p-521", "ed25519"],
)
def test_every_kind_of_key_that_is_judged_good_can_be_served(key: SigningKey) -> None:
    certificate = read_pair(AUTHORITY.issue("shop.example", key=key).secret_data())

    assert meet(trusting(AUTHORITY), certificate=certificate).names_shown() == ["shop.example"]


def test_a_key_that_signs_what_nobody_can_verify_fails_for_its_own_names_alone() -> None:
    """A composite factor is found when the key is judged, unless chance hides it: then handshakes must stand it."""
    pair = AUTHORITY.issue("shop.example", key=without_primes())
    useless = dataclasses.replace(CERTIFICATE, fingerprint="useless", chain_pem=pair.chain, key_pem=pair.key)

    for _ in range(2):
        with pytest.raises(ssl.SSLError, match="BAD_SIGNATURE"):
            meet(trusting(AUTHORITY), certificate=useless)
        assert meet(trusting(AUTHORITY)).names_shown() == ["shop.example"]


def test_the_whole_chain_is_sent() -> None:
    middle = Authority("in the middle", issuer=AUTHORITY)
    pair = middle.issue("shop.example")
    whole = read_pair({"tls.crt": pair.chain + middle.certificate, "tls.key": pair.key})
    alone = read_pair({"tls.crt": pair.chain, "tls.key": pair.key})

    assert meet(trusting(AUTHORITY), certificate=whole).names_shown() == ["shop.example"]
    with pytest.raises(ssl.SSLCertVerificationError):
        meet(trusting(AUTHORITY), certificate=alone)


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_a_session_is_resumed_unless_tickets_are_off(version: ssl.TLSVersion) -> None:
    listening, presenting = context.listening(DEFAULT), context.presenting(CERTIFICATE, DEFAULT)

    def switch(connection: ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
        connection.context = presenting

    listening.sni_callback = switch
    client = trusting(AUTHORITY, version)
    first = shake(listening, client, "shop.example").client
    assert not first.session_reused
    assert shake(listening, client, "shop.example", first.session).client.session_reused

    context.tune(listening, TlsPolicy(session_tickets=False))
    ticket_of_before = shake(listening, client, "shop.example", first.session).client
    fresh = shake(listening, client, "shop.example").client
    assert not ticket_of_before.session_reused
    assert not (fresh.session and fresh.session.has_ticket)

    context.tune(listening, DEFAULT)
    assert shake(listening, client, "shop.example", first.session).client.session_reused


def test_renegotiation_and_compression_are_off() -> None:
    options = context.listening(DEFAULT).options

    assert options & ssl.OP_NO_RENEGOTIATION
    assert options & ssl.OP_NO_COMPRESSION


WATCHED = """
import os, sys
from examples.authority import Authority
from drycc_tls import context
from drycc_tls.policy import TlsPolicy
from drycc_tls.secret import read_pair

certificate = read_pair(Authority().issue("shop.example").secret_data())
opened = []
sys.addaudithook(lambda event, args: opened.append((args[0], args[2])) if event == "open" else None)
context.presenting(certificate, TlsPolicy())
named = [path for path, flags in opened if not isinstance(path, int) and flags & (os.O_WRONLY | os.O_RDWR)]
print(len(opened), named)
"""


def test_building_a_context_opens_no_file_for_writing() -> None:
    """In a process of its own: an audit hook cannot be taken off again. The one file opened is the one in memory."""
    seen = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True, timeout=30)

    assert seen.stdout.split() == ["1", "[]"]


def test_no_descriptor_is_left_behind_even_when_openssl_refuses() -> None:
    before = os.listdir("/proc/self/fd")
    mixed = dataclasses.replace(CERTIFICATE, key_pem=read_pair(AUTHORITY.issue("other.example").secret_data()).key_pem)

    context.presenting(CERTIFICATE, DEFAULT)
    with pytest.raises(ssl.SSLError):
        context.presenting(mixed, DEFAULT)

    assert os.listdir("/proc/self/fd") == before
