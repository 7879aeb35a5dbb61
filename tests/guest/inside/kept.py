"""Files of the guest that a module changes, and that other modules want as they were."""

import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USERS = tuple(
    Path("/etc", name) for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
)
LVM_CONFIGURATION = Path("/etc/lvm/lvm.conf")


@contextmanager
def kept(*paths: Path) -> Iterator[None]:
    """After the body each file is what it was before, or is missing again; a folder is removed
    that was not there."""
    before = [(path, _content(path)) for path in paths]
    try:
        yield
    finally:
        for path, content in before:
            _restore(path, content)


def _content(path: Path) -> tuple[bytes, int] | None:
    """And mode; None: there is nothing."""
    if not path.exists():
        return None
    assert path.is_file(), f"{path} is there already"
    return path.read_bytes(), stat.S_IMODE(path.stat().st_mode)


def _restore(path: Path, content: tuple[bytes, int] | None) -> None:
    if content is not None:
        path.write_bytes(content[0])
        path.chmod(content[1])
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
