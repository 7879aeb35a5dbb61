"""Files in PEM format, as a TLS context takes them in: what is wrong is told with their names."""

import ssl
from collections.abc import Generator
from contextlib import contextmanager

from protocol.errors import BadParameter


def show(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Prove with these who we are. Raises BadParameter (1000): a file is no good."""
    with _named(f"{certificate}, {key}"):
        context.load_cert_chain(certificate, key)


def trust(context: ssl.SSLContext, ca: str) -> None:
    """Believe those whom these authorities know. Raises BadParameter (1000)."""
    with _named(ca):
        context.load_verify_locations(ca)


@contextmanager
def _named(files: str) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError) as e:  # SSLError is an OSError
        reason = (e.strerror if isinstance(e, OSError) else None) or str(e)
        raise BadParameter("certificates", f"{files}: {reason}") from None
