"""The certificate with which the engine proves to its clients who it is."""

import ssl

from protocol import pem


def context(certificate: str, key: str) -> ssl.SSLContext:
    """For a server; clients have tokens, not certificates. BadParameter: a file is no good."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    pem.show(made, certificate, key)
    return made


class Certificate:
    """context: for a connection that comes now."""

    def __init__(self, certificate: str, key: str) -> None:
        """Raises BadParameter (1000)."""
        self._files = certificate, key
        self.context = context(*self._files)

    def read_again(self) -> None:
        """For connections that come from now on. BadParameter: the former ones stay in use."""
        self.context = context(*self._files)
