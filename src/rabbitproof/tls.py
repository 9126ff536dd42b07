"""Whom a TLS connection trusts and how it shows who it is, for AMQP and for HTTPS alike.

Holds: how a ``Tls`` becomes the standard library's context. Refuses to hold: sockets, and the
options that a ``Tls`` comes from (``cli/connection``).

Rules: verification is on unless ``Tls.verify`` is off. Not pure: it reads the PEM files.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from rabbitproof.errors import UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from rabbitproof.address import Tls


def client_context(tls: Tls) -> ssl.SSLContext:
    """Return a client's context; without a ``ca_file`` it trusts the system's authorities.

    Raise UsageError when a file is none that can be used.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:  # ssl.SSLError is one
        files = [safe(name) for name in (tls.ca_file, tls.cert_file, tls.key_file) if name]
        raise UsageError(
            f"A TLS file cannot be used ({safe(error.strerror or str(error))}); check that"
            f" {', '.join(files) or 'what SSL_CERT_FILE names'} can be read and holds PEM, and"
            " that key and certificate belong together."
        ) from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
