"""What may be said to LVM: checked here before it reaches a command line, by the agent and once
more by the privileged helper.

Nothing that passes can be taken for an option, a path, a tag (@) or a list. Source: lvm(8), "VALID
NAMES" and "TAGS".
"""

import re

from protocol.errors import BadParameter

SIZE_LIMIT = 1 << 60  # bytes
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_DISK = re.compile(_UUID)
_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,63}")
_TAG = re.compile(rf"UPDATING|STARTED|(?:VM|IU|PU|JOB)_{_UUID}|GEN_[0-9]{{1,3}}|AT_[0-9]{{1,12}}")
_DEVICE = re.compile(r"/dev(?:/[A-Za-z0-9_:@=+-][A-Za-z0-9_.:@=+-]{0,127}){1,4}")
# Of the parts of other logical volumes, so they can be those of none.
_RESERVED = re.compile(
    r"snapshot.*|pvmove.*|.*_(cdata|cmeta|corig|mlog|mimage|pmspare|rimage|rmeta|tdata|tmeta|vorigin|vdata)(_.*)?"
)


def group(name: str) -> str:
    """The name of a volume group. Raises BadParameter, as everything here."""
    return _checked("volume_group", name, _NAME, "is not the name of a volume group")


def pool(name: str) -> str:
    """The name of a thin pool."""
    checked = _checked("thin_pool", name, _NAME, "is not the name of a thin pool")
    if _RESERVED.fullmatch(checked):
        raise BadParameter("thin_pool", f"{checked} is a name that LVM keeps for itself")
    return checked


def disk(name: str) -> str:
    """The name of the logical volume of a local disk: the id of its volume, in small letters."""
    return _checked("volume_id", name, _DISK, "is not a UUID in small letters")


def tag(text: str) -> str:
    """One of the tags that we give, and no other: those of others are not ours to change."""
    return _checked("tag", text, _TAG, "is not a tag of a local disk")


def device(path: str) -> str:
    """A block device that the volume group may lie on."""
    return _checked("devices", path, _DEVICE, "is not the path of a device under /dev")


def size(number: int) -> int:
    """Bytes, in whole sectors."""
    if not 0 < number <= SIZE_LIMIT or number % 512:
        raise BadParameter("size", f"{number} is not a size in bytes, a multiple of 512")
    return number


def _checked(name: str, text: str, form: re.Pattern[str], reason: str) -> str:
    if not form.fullmatch(text):
        raise BadParameter(name, f"{text!r:.100} {reason}")
    return text
