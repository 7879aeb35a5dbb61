"""What packaging/vdsm-hooks/install puts into place for vdsm, and what docs/hooks.md says of it."""

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.installers import run

TOP = Path(__file__).parents[2]
INSTALL = TOP / "packaging" / "vdsm-hooks" / "install"
HOOKS = {
    "after_disk_prepare": "leasehold-hook-after-disk-prepare",
    "before_vm_hibernate": "leasehold-hook-before-vm-hibernate",
    "before_vm_migrate_source": "leasehold-hook-before-vm-migrate-source",
    "after_vm_destroy": "leasehold-hook-after-vm-destroy",
}
PROGRAMS = {*HOOKS.values(), "leasehold-hook-localdisk"}
install = partial(run, INSTALL)


def test_hooks_programs_and_rights_are_put_into_place_as_often_as_one_likes(tmp_path: Path) -> None:
    for _ in range(2):
        done = install(DESTDIR=str(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
    for hook in HOOKS:
        there = tmp_path / "usr/libexec/vdsm/hooks" / hook / "50_leasehold"
        assert os.access(there, os.X_OK)
    links = {path.name: os.readlink(path) for path in (tmp_path / "usr/local/bin").iterdir()}
    assert links == {name: str(TOP / ".venv/bin" / name) for name in PROGRAMS}
    assert (tmp_path / "etc/sudoers.d/leasehold-hooks").stat().st_mode & 0o777 == 0o440
    assert list((tmp_path / "etc/udev/rules.d").iterdir())


def test_two_hooks_for_one_property_are_not_installed(tmp_path: Path) -> None:
    other = tmp_path / "usr/libexec/vdsm/hooks/after_disk_prepare/localdisk"
    other.parent.mkdir(parents=True)
    other.touch()
    done = install(DESTDIR=str(tmp_path))
    assert done.returncode == 1
    assert "vdsm-hook-localdisk" in done.stderr
    assert list(other.parent.iterdir()) == [other]


def test_an_argument_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    assert install("--root", DESTDIR=str(tmp_path)).returncode == 2


@pytest.mark.parametrize("hook", HOOKS)
def test_the_hook_in_the_folder_of_vdsm_runs_its_program_and_nothing_for_other_vms(
    hook: str, tmp_path: Path
) -> None:
    """Through a copy that names another folder than /usr/local/bin."""
    text = (TOP / "packaging/vdsm-hooks" / hook / "50_leasehold").read_text()
    assert f"exec /usr/local/bin/{HOOKS[hook]}\n" in text
    copy, program = tmp_path / "50_leasehold", tmp_path / HOOKS[hook]
    copy.write_text(text.replace("/usr/local/bin", str(tmp_path)))
    program.write_text('#!/bin/sh\necho "$localdisk $vmId ${PYTHONPATH-none}"; exit 2\n')
    for path in (copy, program):
        path.chmod(0o755)
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": ":/usr/lib/vdsm/hook", "vmId": "id"}
    for given in ({}, {"localdisk": ""}):
        done = subprocess.run(copy, env={**plain, **given}, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    given = {"localdisk": "a b"}
    done = subprocess.run(copy, env={**plain, **given}, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"a b id none\n")
    program.unlink()
    done = subprocess.run(copy, env={**plain, **given}, capture_output=True, check=False)
    assert done.returncode > 0


@pytest.mark.parametrize("hook", HOOKS)
def test_an_installed_hook_answers(hook: str) -> None:
    program = TOP / ".venv/bin" / HOOKS[hook]
    environment = {key: value for key, value in os.environ.items() if key != "localdisk"}
    done = subprocess.run(program, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = subprocess.run(
        program, env={**environment, "localdisk": "zfs"}, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.skipif(shutil.which("visudo", path="/usr/sbin:/usr/bin") is None, reason="no sudo")
def test_the_rights_are_such_as_sudo_reads() -> None:
    file = TOP / "packaging/sudoers.d/leasehold-hooks"
    done = subprocess.run(
        ["/usr/sbin/visudo", "-c", "-f", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    assert '/usr/local/bin/leasehold-hook-localdisk ""' in file.read_text()


def test_the_page_names_every_hook_and_what_it_is_installed_by() -> None:
    page = (TOP / "docs" / "hooks.md").read_text()
    for word in (*HOOKS, "packaging/vdsm-hooks/install", "UserDefinedVMProperties", "50_leasehold"):
        assert word in page
