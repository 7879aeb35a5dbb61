"""The command of LVM for an operation. Source: lvm(8), lvs(8), vgs(8), lvcreate(8), lvchange(8),
lvremove(8), lvmreport(7), version 2.03.16."""

from collections.abc import Iterable

from processes.lvm_operation import Operation

VOLUME_FIELDS = (
    "vg_name,lv_name,lv_size,vg_extent_size,lv_tags,lv_active,lv_device_open,pool_lv,data_percent"
)
POOL_FIELDS = (
    "vg_name,lv_name,lv_size,chunk_size,lv_metadata_size,data_percent,metadata_percent,"
    "lv_when_full,zero"
)
GROUP_FIELDS = "vg_name,vg_size,vg_free,vg_extent_size"
_REPORT = ["--reportformat", "json", "--units", "b", "--nosuffix", "--binary"]


def command(operation: Operation, group: str, devices: Iterable[str]) -> list[str]:
    """Its words, `lvm` first; everything in them was checked when the operation was made.

    An empty report, not an error, is the answer for a group or volume that there is not; a volume
    to change or remove must be there.
    """
    config = ["--config", _filter(devices)] if devices else []
    head, rest = _parts(operation, group)
    return ["lvm", head, *config, *rest]


def _parts(operation: Operation, group: str) -> tuple[str, list[str]]:
    full = f"{group}/{operation.name}"
    match operation.verb:
        case "create":
            return "lvcreate", _create(operation, group)
        case "change":
            added = [word for tag in operation.add for word in ("--addtag", tag)]
            removed = [word for tag in operation.remove for word in ("--deltag", tag)]
            return "lvchange", [*added, *removed, *_having(operation), full]
        case "wake":
            return "lvchange", ["--activate", "y", full]
        case "activate" | "deactivate":
            on = "y" if operation.verb == "activate" else "n"
            return "lvchange", ["--activate", on, *_having(operation), full]
        case "remove":
            return "lvremove", ["--yes", *_having(operation), full]
        case _:
            return _read(operation, group)


def _having(operation: Operation) -> list[str]:
    """LVM looks at the tags under its own lock; a volume without them is left alone in silence."""
    return ["--select", " && ".join(f'lv_tags={{"{tag}"}}' for tag in operation.having)]


def _read(operation: Operation, group: str) -> tuple[str, list[str]]:
    named = f'lv_name="{operation.name}"'
    match operation.verb:
        case "group":
            select = f'vg_name="{group}"'
            return "vgs", [*_REPORT, "--options", GROUP_FIELDS, "--select", select]
        case "pool":
            select = f'{named} && segtype="thin-pool"'
            return "lvs", [*_REPORT, "--options", POOL_FIELDS, "--select", select, group]
        case "volume":
            return "lvs", [*_REPORT, "--options", VOLUME_FIELDS, "--select", named, group]
        case _:
            return "lvs", [*_REPORT, "--options", VOLUME_FIELDS, group]


def _create(operation: Operation, group: str) -> list[str]:
    tags = [word for tag in operation.add for word in ("--addtag", tag)]
    # Nothing is wiped: the whole volume is written before anybody reads it.
    words = ["--yes", "--wipesignatures", "n", "--name", operation.name, *tags]
    if operation.pool is None:
        return [*words, "--zero", "n", "--type", "linear", "--size", f"{operation.size}b", group]
    sized = ["--virtualsize", f"{operation.size}b", "--thinpool", operation.pool]
    return [*words, "--type", "thin", *sized, group]


def _filter(devices: Iterable[str]) -> str:
    """Nothing but these devices is looked at, whatever lvm.conf and its file of devices say."""
    accepted = ",".join(f'"a|^{_literal(device)}$|"' for device in devices)
    return f'devices {{ use_devicesfile=0 filter=[{accepted},"r|.*|"] }}'


def _literal(path: str) -> str:
    """As a regular expression; a backslash would be one of the configuration too."""
    return "".join(f"[{c}]" if c in ".+" else c for c in path)
