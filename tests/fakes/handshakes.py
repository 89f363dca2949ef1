"""TLS handshakes in memory: two ends, two buffers, no sockets and no loop."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from cryptography import x509

from examples.authority import Authority

__all__ = ["Ends", "shake", "trusting"]


@dataclass
class Ends:
    """Both ends of a connection whose handshake is complete, session ticket delivered."""

    server: ssl.SSLObject
    client: ssl.SSLObject

    def names_shown(self) -> list[str]:
        """DNS names of the certificate that the client was shown."""
        der = self.client.getpeercert(binary_form=True)
        assert der is not None
        shown = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return shown.value.get_values_for_type(x509.DNSName)

    def speak(self, text: bytes = b"hello") -> None:
        """One message each way."""
        self.client.write(text)
        assert self.server.read(len(text)) == text
        self.server.write(text)
        assert self.client.read(len(text)) == text


def trusting(authority: Authority | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """What a client connects with; None: it takes any certificate. ``version``: it speaks only that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=authority.certificate.decode())
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def shake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None, session: ssl.SSLSession | None = None
) -> Ends:
    """Shake hands; whatever either end raises comes out, the server's first."""
    client_in, server_in = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepted = server.wrap_bio(server_in, client_in, server_side=True)
    connected = client.wrap_bio(client_in, server_in, server_hostname=name, session=session)
    waiting = [connected, accepted]
    for _ in range(10):
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            ends = Ends(accepted, connected)
            ends.speak()
            return ends
    raise AssertionError("the handshake did not come to an end")
