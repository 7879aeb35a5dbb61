"""TLS with certificates on both sides. What a client may do stands in its certificate.

The role is the organizational unit (OU) of the subject: `engine` or `monitor`. A certificate that
somebody else's authority made can be given a role by its common name (CN).
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from host.wire.call import ROLES, Peer, Role
from protocol import pem


class NotAdmitted(Exception):
    """A client that may do nothing here; the text is for it and for the log."""


@dataclass(frozen=True)
class Certificates:
    """Files in PEM format. ca: of the authorities whose clients are let in.

    names: roles of certificates that have none of ours, by common name.
    """

    ca: str
    certificate: str
    key: str
    names: Mapping[str, Role] = field(default_factory=dict)


def context(files: Certificates) -> ssl.SSLContext:
    """For a server that wants a certificate of each client. BadParameter: a file is no good."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_REQUIRED
    pem.show(made, files.certificate, files.key)
    pem.trust(made, files.ca)
    return made


class Secrets:
    """What is proved to clients, and asked of them; read anew on request."""

    def __init__(self, files: Certificates) -> None:
        """Raises BadParameter."""
        self.files = files
        self.context = context(files)

    def read_again(self) -> None:
        """For connections that come from now on. BadParameter: the former ones stay in use."""
        self.context = context(self.files)


def peer(certificate: Mapping[str, Any], names: Mapping[str, Role]) -> Peer:
    """Who a verified certificate is of; as ssl.SSLSocket.getpeercert gives it. NotAdmitted."""
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    common = [value for key, value in subject if key == "commonName"]
    name = common[0] if len(common) == 1 else ""
    units = {value for key, value in subject if key == "organizationalUnitName"}
    roles = [role for role in ROLES if role in units]
    if len(roles) == 1:
        return Peer(roles[0], name)
    if not roles and name in names:
        return Peer(names[name], name)
    raise NotAdmitted("the certificate names no role: OU=engine or OU=monitor")
