"""A drive of a VM as vdsm hands it to its hooks: which disk it is, and where it is from now on.

Everything in it comes from the engine, and from who may edit the VM. Source: docs/hooks.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from host.hooks.program import Refused, uuid

LIMIT = 1 << 20  # bytes; a drive has about 2000, a chain of 500 images 300,000
PATH_LIMIT = 4096
_FORMATS: dict[str, Literal["raw", "qcow2"]] = {"cow": "qcow2", "raw": "raw"}
_KINDS = ("file", "block")


@dataclass(frozen=True)
class Drive:
    """A disk that is to become local. data: as vdsm gave it, with keys that we do not know.

    managed: it is a volume of managed block storage, whatever its ids say.
    """

    data: Mapping[str, Any]
    sd_id: str
    img_id: str
    vol_id: str
    path: str
    format: Literal["raw", "qcow2"]
    managed: bool

    def at(self, device: str) -> bytes:
        """The drive as vdsm reads it again, on a raw block device. Raises Refused: it is none."""
        if not device.startswith("/") or not device.isprintable():
            raise Refused(f"this is the path of no device: {device!r:.200}")
        changed = {**self.data, "path": device, "format": "raw", "diskType": "block"}
        return json.dumps(changed).encode()


def read(text: bytes) -> Drive | None:
    """None: it is none that becomes local (a CD-ROM, or no image of a storage domain).

    Raises Refused: something is missing or not what it has to be, or other VMs use it as well.
    """
    data = _decoded(text)
    if data.get("device", "disk") != "disk":
        return None
    if not any(data.get(key) for key in ("domainID", "imageID", "volumeID")):
        return None
    if data.get("shared") in ("shared", "transient", "true", True):
        raise Refused(f"a disk that is {data['shared']!r} cannot be local: others write to it too")
    if data.get("diskType") not in _KINDS:
        raise _wrong(data, "diskType", f"none of {', '.join(_KINDS)}")
    if data.get("format") not in tuple(_FORMATS):  # it may be a list, which is no key
        raise _wrong(data, "format", f"none of {', '.join(_FORMATS)}")
    return Drive(
        data=data,
        sd_id=uuid(data.get("domainID"), "domainID"),
        img_id=uuid(data.get("imageID"), "imageID"),
        vol_id=uuid(data.get("volumeID"), "volumeID"),
        path=_checked_path(data),
        format=_FORMATS[data["format"]],
        managed=data.get("managed") in (True, "true"),
    )


def _decoded(text: bytes) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise Refused(f"_hook_json is no JSON: {e}") from None
    if not isinstance(data, dict):
        raise Refused(f"_hook_json is no drive, but a {type(data).__name__}")
    return data


def _checked_path(data: Mapping[str, Any]) -> str:
    path = data.get("path")
    if (
        not isinstance(path, str)
        or not path.startswith("/")
        or not path.isprintable()
        or len(path) > PATH_LIMIT
        or ".." in path.split("/")
    ):
        raise _wrong(data, "path", "no path that an image of a storage domain can have")
    return path


def _wrong(data: Mapping[str, Any], key: str, reason: str) -> Refused:
    if key not in data:
        return Refused(f"the drive has no {key}")
    return Refused(f"the {key} of the drive is {reason}: {data[key]!r:.200}")
