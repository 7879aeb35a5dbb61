"""Files with what it takes to reach a volume, in a folder that only root enters."""

import os
import shutil
from contextlib import suppress
from pathlib import Path


def write(folder: Path, name: str, content: str) -> Path:
    """A file with a secret, perhaps; the path. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(content)
    return path


def clear(folder: Path) -> None:
    """Remove the folder with all of it. Raises OSError."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
