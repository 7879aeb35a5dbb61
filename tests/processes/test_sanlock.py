"""What is read of the sanlock daemon's own program."""

from pathlib import Path

import pytest

from processes import sanlock
from processes.sanlock import Daemon
from protocol.errors import BadOutput, ToolFailed, ToolMissing
from tests.sanlock_hosts import Hosts

STATUS = """\
daemon {name}
    our_host_name={name}
    use_watchdog={watchdog}
    high_priority=0
    version_str=3.8.5
p -1 helper
    use_watchdog=7
"""
HOSTS = """\
lockspace 11111111-2222-4333-8444-555555555555
1 timestamp 12842
    last_check=12843
    last_live=12841
    owner_name=a
2 timestamp 0
    last_check=12843
    last_live=0
    owner_name=3 timestamp 5
2000 timestamp 12840
    last_live=12839
"""


@pytest.mark.parametrize(("flag", "on"), [("0", False), ("1", True)])
def test_name_watchdog_and_version_are_read(flag: str, on: bool) -> None:
    found = sanlock.parse(STATUS.format(name="a.example", watchdog=flag))
    assert found == Daemon("a.example", on, "3.8.5")


@pytest.mark.parametrize("text", ["", "\n", "p -1 helper\n", "daemon a\n", "daemon a\n    x=1\n"])
def test_output_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(BadOutput):
        sanlock.parse(text)


@pytest.mark.parametrize(
    ("name", "stable"),
    [
        ("a", True),
        ("host.example.org", True),
        ("1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef.host", False),
        ("1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef", False),
        ("rack-1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef", True),
    ],
)
def test_a_name_that_the_daemon_made_up_is_known_as_such(name: str, stable: bool) -> None:
    assert Daemon(name, True, "").name_is_stable is stable


def test_hosts_that_were_never_seen_have_no_time() -> None:
    assert sanlock.parse_hosts(HOSTS) == {1: 12841, 2000: 12839}
    assert sanlock.parse_hosts("") == {}


@pytest.mark.tools("sanlock")
async def test_the_real_daemon_is_asked(hosts: Hosts) -> None:
    found = await sanlock.daemon()
    assert (found.host_name, found.watchdog) == (hosts.a.name, False)
    assert found.version[:1].isdigit()


@pytest.mark.tools("sanlock")
async def test_the_environment_picks_the_daemon(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANLOCK_RUN_DIR", str(hosts.b.run_dir))
    assert (await sanlock.daemon()).host_name == hosts.b.name


@pytest.mark.tools("sanlock")
async def test_no_daemon_is_a_failure_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANLOCK_RUN_DIR", str(tmp_path))
    with pytest.raises(ToolFailed):
        await sanlock.daemon()


async def test_a_missing_program_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sanlock, "_FOLDERS", str(tmp_path))
    with pytest.raises(ToolMissing, match="install the package sanlock"):
        await sanlock.daemon()


@pytest.mark.tools("sanlock")
async def test_the_program_is_found_though_a_user_has_no_path_to_it(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert (await sanlock.daemon()).host_name == hosts.a.name
