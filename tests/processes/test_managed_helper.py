"""Calls of helper programs: found by name, bounded in time and output, told nothing by argv."""

import os
from pathlib import Path

import pytest

from processes.managed_helper import NAME, NoHelper, Outcome, call, find
from tests.managed import scripted
from tests.servers import WAIT


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    folder = tmp_path / "ours"
    folder.mkdir()
    for name in (NAME, f"{NAME}-file"):
        (folder / name).touch(mode=0o755)
    return folder


def test_the_first_folder_that_has_a_helper_decides(ours: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    folders = (str(one), str(other))
    assert find("file", folders, ours) == ours / f"{NAME}-file"
    other.mkdir()
    (other / f"{NAME}-file").touch(mode=0o755)
    assert find("file", folders, ours) == other / f"{NAME}-file"
    one.mkdir()
    (one / f"{NAME}-file").touch(mode=0o644)
    with pytest.raises(NoHelper, match="can be executed"):  # and not the next one instead
        find("file", folders, ours)
    (one / f"{NAME}-file").unlink()
    os.symlink("nowhere", one / f"{NAME}-file")
    with pytest.raises(NoHelper):
        find("file", folders, ours)


def test_without_an_adapter_it_is_ours(ours: Path, tmp_path: Path) -> None:
    (tmp_path / NAME).touch(mode=0o755)
    assert find(None, (str(tmp_path),), ours) == ours / NAME


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "-a", "a_b", "a\n", "a" * 64, "ä"])
def test_a_name_that_is_none_is_not_looked_for(ours: Path, name: str) -> None:
    with pytest.raises(NoHelper, match="is not a name"):
        find(name, (), ours)


def test_where_it_was_looked_for_is_told(ours: Path) -> None:
    with pytest.raises(NoHelper, match=f"no {NAME}-missing in any of /nowhere, {ours}"):
        find("missing", ("/nowhere",), ours)


async def test_secrets_come_by_standard_input_alone(tmp_path: Path) -> None:
    helper = scripted(tmp_path / "vendor")
    helper.script("attach", "print(json.dumps({'argv': open('/proc/self/cmdline').read()}))")
    message = {"password": "TOPSECRET"}
    found = await call(
        helper.program, "attach", message, seconds=WAIT, environment={"LEASEHOLD_X": "y"}
    )
    assert found.failure is None
    assert found.answer["argv"].split("\0")[-3:] == [str(helper.program), "attach", ""]
    assert helper.calls == [("attach", message)]
    [environment] = helper.environments
    assert environment["LEASEHOLD_X"] == "y"
    assert "TOPSECRET" not in str(environment)
    assert "HOME" not in environment or environment["HOME"] == os.environ["HOME"]
    assert "PYTEST_CURRENT_TEST" not in environment


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ('print(\'{"path": "/x"}\')', Outcome({"path": "/x"})),
        ("sys.exit('no')", Outcome(failure="no")),
        ("sys.exit(3)", Outcome(failure="it ended with status 3 and said nothing")),
        (
            "sys.stderr.write('why'); sys.stderr.flush(); os.kill(os.getpid(), 9)",
            Outcome(failure="it was killed by signal 9: why", uncertain=True),
        ),
    ],
)
async def test_how_it_ended_is_told(tmp_path: Path, script: str, outcome: Outcome) -> None:
    helper = scripted(tmp_path / "vendor")
    helper.script("attach", script)
    assert await call(helper.program, "attach", {}, seconds=WAIT, environment={}) == outcome


async def test_a_detach_has_nothing_to_tell(tmp_path: Path) -> None:
    helper = scripted(tmp_path / "vendor")
    helper.script("detach", "print('gone now')")
    assert await call(helper.program, "detach", {}, seconds=WAIT, environment={}) == Outcome()


async def test_what_cannot_be_executed_is_told(tmp_path: Path) -> None:
    found = await call(tmp_path / "missing", "attach", {}, seconds=WAIT, environment={})
    assert found == Outcome(failure="it cannot be executed")
    broken = tmp_path / "broken"
    broken.write_text("#!/nowhere/interpreter\n")
    broken.chmod(0o755)
    found = await call(broken, "attach", {}, seconds=WAIT, environment={})
    assert "broken: cannot execute" in str(found.failure)
