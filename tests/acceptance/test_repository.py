"""The files at the top of the repository that no package owns."""

import os
import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
SCRIPTS = sorted([*(TOP / "scripts").iterdir(), TOP / ".ci" / "run"])

# Names of machines and folders tie a lock file to the place where it was made.
PLACE = re.compile(r"://|(^|[\s=])[/~]|\.(com|dev|io|local|net|org)\b")


def locked() -> list[str]:
    """The requirements of the lock file, each as one line with its hashes."""
    text = (TOP / "requirements.lock").read_text()
    lines = (line.partition("#")[0].rstrip() for line in text.splitlines())
    joined = "\n".join(line for line in lines if line).replace("\\\n", " ")
    return joined.splitlines()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_is_executable_and_its_shell_can_read_it(script: Path) -> None:
    assert os.access(script, os.X_OK)
    first = script.read_text().partition("\n")[0]
    assert first.startswith("#!")
    shell = first.removeprefix("#!").split()
    if shell[-1] in {"/bin/sh", "bash"}:
        subprocess.run([*shell, "-n", str(script)], check=True)


def test_the_lock_file_names_no_index_and_no_place() -> None:
    lines = (TOP / "requirements.lock").read_text().splitlines()
    assert [line for line in lines if PLACE.search(line)] == []


def test_every_locked_version_is_exact_and_has_hashes() -> None:
    requirements = locked()
    assert len(requirements) > 20
    exact = re.compile(r"[a-z0-9-]+==\S+( ; [^-]+)?( +--hash=sha256:[0-9a-f]{64})+")
    assert [line for line in requirements if not exact.fullmatch(line)] == []


@pytest.mark.tools(
    "ceph", "ceph-mgr", "ceph-mon", "ceph-osd", "iscsi-ls", "lvm", "mke2fs", "mmdebstrap",
    "nbdcopy", "nbdinfo", "nbdkit", "nsenter", "openssl", "pidwait", "pkill", "qemu-img",
    "qemu-io", "qemu-nbd", "qemu-system-x86_64", "sanlock", "setpriv", "systemctl",
    "systemd-analyze", "tgtd", "unshare",
)  # fmt: skip
def test_setup_brings_every_tool_and_the_binding_of_sanlock() -> None:
    import sanlock  # noqa: PLC0415 - not there before setup has run, and then only this test fails

    assert sanlock.register
