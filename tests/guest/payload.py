"""The disk "payload" of a guest: this checkout with its virtual environment, as a file system.

It is mounted at the path that the checkout has on this host, so that everything in .venv works
there unchanged: its scripts name that path, and its python is a link to the guest's, which is the
same. A file system and not an archive: to unpack thousands of files takes the guest longer than to
boot.
"""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.conftest import SEARCH_PATH

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
SPARE = 64 * MIB  # for what is written to it
# Large, and of no use where nothing is installed, checked or built.
LEFT_OUT = {
    *("mypy", "mypyc", "pip", "setuptools", "pkg_resources", "_distutils_hack", "hatchling"),
    *("grimp", "importlinter", "ast_serialize", "librt"),
    "distutils-precedence.pth",  # of setuptools
}


def made(path: Path, scratch: Path) -> None:
    """Write the file system to `path`; `scratch` is a folder that does not exist yet."""
    _copy(ROOT, scratch, _of_the_checkout)
    _copy_environment(scratch / ".venv")
    used = sum(-(-p.lstat().st_size // 4096) * 4096 + 4096 for p in scratch.rglob("*"))
    command = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", "-i", "8192"]
    subprocess.run(
        [*command, "-d", scratch, path, f"{(used + SPARE) // MIB * 5 // 4}M"],
        env={**os.environ, "PATH": SEARCH_PATH},
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    shutil.rmtree(scratch)


def _of_the_checkout(folder: str, names: list[str]) -> set[str]:
    """Not taken: what begins with a dot. The byte code is: the guest would be slow to make it."""
    return {name for name in names if name.startswith(".")}


def _copy_environment(target: Path) -> None:
    source = ROOT / ".venv"
    packages = Path(sysconfig.get_path("purelib")).relative_to(source)
    _copy(source / "bin", target / "bin", _of_the_tools)
    shutil.copy2(source / "pyvenv.cfg", target)
    _copy(source / packages, target / packages, _of_the_packages)


def _copy(source: Path, target: Path, ignore: Callable[[str, list[str]], set[str]]) -> None:
    def copy(one: str, other: str) -> None:
        with suppress(FileNotFoundError):  # byte code comes and goes beside us
            shutil.copy2(one, other, follow_symlinks=False)

    shutil.copytree(source, target, symlinks=True, ignore=ignore, copy_function=copy)


def _of_the_tools(folder: str, names: list[str]) -> set[str]:
    return {"ruff"}


def _of_the_packages(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in LEFT_OUT or "__mypyc." in name}
