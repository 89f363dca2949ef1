"""Certificates in, contexts out: a library that knows neither Kubernetes nor HTTP.

The life of a certificate
-------------------------
1. ``secret.read_pair`` takes the two entries of a Secret; ``certificate.parse`` judges them: readable, matching, strong
   enough to be served. A bad pair is a ``BadCertificate`` with a machine name, never with a quotation; the previous one
   stays in use.
2. A ``change.CertificateChange`` carries what is new, what is gone and which name presents which.
3. ``store.CertificateStore.prepare`` builds a context for each new pair, in a thread, through memory only
   (``context``); what did not change keeps its context.
4. ``store.CertificateStore.swap`` makes it current between two handshakes. Open connections keep the context they
   began with, and the last of them takes it away.
5. ``sni.Front`` owns the listening context, which has no certificate: each handshake asks the store by name (``names``)
   and gets the name's own certificate, else the default one.
"""
