"""The run folder of managed volumes: a link to the device of each, and what it takes to reach it.

    <sd_id>_<vol_id>             a link to the block device; an attachment that is a url has none
    .<sd_id>_<vol_id>.access/    files of the helper, with secrets perhaps: only root enters it

It lies in memory (/run), so nothing of it is there after a reboot. Its calls block for a moment and
raise OSError.
"""

import os
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ManagedRun:
    """The folder, which is made when it is needed."""

    folder: Path

    def link(self, sd_id: str, vol_id: str) -> Path:
        """Where the link of a volume is, whether it is there or not."""
        return self.folder / f"{sd_id}_{vol_id}"

    def access(self, sd_id: str, vol_id: str) -> Path:
        """The folder with what it takes to reach a volume."""
        return self.folder / f".{sd_id}_{vol_id}.access"

    def make_link(self, link: Path, device: str) -> None:
        """Let the link lead to `device`, wherever it led before."""
        new = link.with_name(f".{link.name}.{uuid.uuid4().hex}")
        try:
            new.symlink_to(device)
            os.replace(new, link)
        except BaseException:
            with suppress(OSError):
                new.unlink()
            raise

    def make_access(self, folder: Path) -> None:
        """An empty folder that only we can enter."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if os.path.lexists(folder):
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)

    def remove(self, sd_id: str, vol_id: str) -> None:
        """Both, as far as they are there."""
        self.link(sd_id, vol_id).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            shutil.rmtree(self.access(sd_id, vol_id))
