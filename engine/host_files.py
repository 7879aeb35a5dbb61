"""The files with which an engine reaches its hosts over TLS."""

import msgspec

from protocol.address import Address, parse


class HostFiles(msgspec.Struct, frozen=True, kw_only=True):
    """In PEM format; "" is none.

    Of the configuration, and of all hosts: clients cannot name files, so who may add a host cannot
    have the engine open what it likes.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""

    def address(self, url: str) -> Address:
        """Of a host. Raises BadParameter (1000)."""
        return parse(url, ca=self.ca, certificate=self.certificate, key=self.key)
