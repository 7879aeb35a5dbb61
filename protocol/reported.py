"""An error that was told by another process: its facts are kept as they came."""

from typing import Any

from protocol.errors import Error


class Reported(Error):
    """rpc: code, kind, message and data, as protocol.errors.to_rpc gives them."""

    def __init__(self, rpc: dict[str, Any]) -> None:
        super().__init__()
        self.rpc = rpc

    @property
    def number(self) -> int:
        """Its code."""
        return int(self.rpc.get("code", Error.code))

    def __str__(self) -> str:
        return str(self.rpc.get("message", Error.text))

    def to_rpc(self) -> dict[str, Any]:
        return self.rpc
