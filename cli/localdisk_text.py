"""Local disks for people."""

from cli.localdisk_hosts import Row
from cli.sizes import format_size
from host.local_disk_request import Unused

OWNED = "owned"  # what a listed disk says of a lease that is held


def table(rows: list[Row]) -> str:
    """Of listed disks, one a line: name, state, backend, size, VM, and what else is known."""
    return "\n".join(map(_line, rows))


def _line(row: Row) -> str:
    size = format_size(row.size)
    vm = f"VM {row.vm_id}" if row.vm_id else "no VM"
    cells = [row.vol_id, f"{row.state:7}", f"{row.backend:7}", f"{size:>6}", vm]
    return "  ".join([*cells, *_notes(row)])


def _notes(row: Row) -> list[str]:
    notes = []
    if row.state == "filling":
        status = "running" if row.job_status == OWNED else row.job_status
        said = f" ({status})" if status else ""
        notes.append(f"job {row.job_id}{said}" if row.job_id else "no job is known")
    if row.started:
        notes.append("handed to its VM")
    if row.open:
        notes.append("open")
    return notes


def unused_line(one: Unused, *, dry_run: bool) -> str:
    """Of a disk that nothing needs."""
    if one.failed:
        return f"local disk {one.vol_id} is kept: {one.failed}"
    what = "would remove" if dry_run else "removed"
    return f"{what} local disk {one.vol_id}: {one.reason}"
