"""The driver `local`: a block device that the storage itself has made on this host."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host.helpers.failure import Failed


async def attach(data: Mapping[str, Any], access: Path) -> dict[str, Any]:
    """data: `device_path`, or `path` in some drivers. Raises Failed."""
    path = data.get("device_path", data.get("path"))
    if not isinstance(path, str) or not path.startswith("/"):
        raise Failed("the connection has no path of a device")
    return {"type": "block", "path": path}


async def detach(
    data: Mapping[str, Any], attachment: Mapping[str, Any] | None, access: Path
) -> None:
    """The storage removes its device."""
