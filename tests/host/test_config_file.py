"""The configuration: what wins, and what is refused with the place where it stands."""

from pathlib import Path

import pytest

from host.config import Config, Jobs, Listen
from host.config_file import PATH, load
from protocol.errors import BadParameter
from protocol.settings import Rate, split_address
from protocol.settings_file import line_of


def written(folder: Path, text: str) -> Path:
    path = folder / "host.toml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_hold() -> None:
    assert not PATH.exists()
    assert load(None, {}) == Config()


def test_a_file_is_below_the_environment_and_that_below_the_command_line(tmp_path: Path) -> None:
    path = written(tmp_path, '[jobs]\nconcurrency = 3\nrate = "50M"\nautodelete = -1\n')
    environment = {"LEASEHOLD_JOBS_CONCURRENCY": "4", "LEASEHOLD_JOBS_RATE": "60M"}
    assert load(path, {}).jobs == Jobs(concurrency=3, rate=Rate(50 << 20), autodelete=-1.0)
    found = load(path, environment, {"jobs.concurrency": "5"}).jobs
    assert found == Jobs(concurrency=5, rate=Rate(60 << 20), autodelete=-1.0)


def test_variables_that_name_no_section_are_for_others() -> None:
    assert load(None, {"LEASEHOLD_HOME": "/x", "LEASEHOLD": "1", "JOBS_X": "1"}) == Config()


def test_lists_tables_and_nothing_are_said_in_a_variable(tmp_path: Path) -> None:
    found = load(
        written(tmp_path, '[listen]\nmonitor_group = "m"\n'),
        {
            "LEASEHOLD_STORAGE_MOUNTS": "/a, /b",
            "LEASEHOLD_ENDPOINTS_DIRECTORIES": "",
            "LEASEHOLD_STORAGE_REQUIRE_WATCHDOG": "false",
            "LEASEHOLD_CERTIFICATES_NAMES": "engine.example=engine",
            "LEASEHOLD_LISTEN_MONITOR_GROUP": "none",
        },
    )
    assert found.storage.mounts == ("/a", "/b")
    assert found.endpoints.directories == ()
    assert found.storage.require_watchdog is False
    assert found.certificates.names == {"engine.example": "engine"}
    assert found.listen == Listen()


@pytest.mark.parametrize(
    ("text", "name", "place"),
    [
        ("[jobs]\n\nconcurency = 1\n", "jobs.concurency", "line 3"),
        ('[log]\n[jobs]\nconcurrency = "1"\n', "jobs.concurrency", "line 3"),
        ("[jobs]\nconcurrency = 0\n", "jobs.concurrency", "line 2"),
        ("[jobs]\nconcurrency = true\n", "jobs.concurrency", "line 2"),
        ("jobs.concurrency = 0\n", "jobs.concurrency", "line 1"),
        ("[jobs]\nrate = 0\n", "jobs.rate", "line 2"),
        ('[jobs]\nrate = "fast"\n', "jobs.rate", "line 2"),
        ("[jobs]\nrate = 1.5\n", "jobs.rate", "line 2"),
        ("\n[job]\nrate = 1\n", "job", "line 2"),
        ("jobs = 1\n", "jobs", "line 1"),
        ('[listen]\ntls = ["*"]\n', "listen.tls", "line 2"),
        ('[storage]\nmounts = ["relative"]\n', "storage.mounts", "line 2"),
        ('[certificates.names]\nx = "king"\n', "certificates.names", "line 1"),
        ('[endpoints]\nschemes = ["http"]\n', "endpoints.schemes", "line 2"),
        ('[identity]\nhardware_id = "x"\n', "identity.hardware_id", "line 2"),
        ("[jobs\n", "configuration", "line 1"),
        ('[listen]\ntls = ["*:1"]\n', "configuration", "host.toml"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(
    tmp_path: Path, text: str, name: str, place: str
) -> None:
    with pytest.raises(BadParameter) as caught:
        load(written(tmp_path, text), {})
    assert caught.value.name == name
    assert place in caught.value.reason
    assert "host.toml" in caught.value.reason


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("LEASEHOLD_JOBS_CONCURENCY", "1", "jobs.concurency"),
        ("LEASEHOLD_JOBS_CONCURRENCY", "many", "jobs.concurrency"),
        ("LEASEHOLD_JOBS_CONCURRENCY", "0", "jobs.concurrency"),
        ("LEASEHOLD_JOBS_RATE", "fast", "jobs.rate"),
        ("LEASEHOLD_STORAGE_MOUNTS", "/a,b", "storage.mounts"),
        ("LEASEHOLD_LOG_LEVEL", "loud", "log.level"),
    ],
)
def test_what_is_wrong_in_the_environment_is_told_with_the_variable(
    variable: str, value: str, name: str
) -> None:
    with pytest.raises(BadParameter) as caught:
        load(None, {variable: value})
    assert caught.value.name == name
    assert f"(in {variable})" in caught.value.reason


def test_a_list_of_the_command_line_may_be_written_as_in_the_file() -> None:
    assert load(None, {}, {"storage.mounts": '["/a", "/b,c"]'}).storage.mounts == ("/a", "/b,c")
    with pytest.raises(BadParameter, match="the command line"):
        load(None, {}, {"storage.mounts": '["/a'})
    with pytest.raises(BadParameter, match="Expected `str`, got `int`"):
        load(None, {}, {"storage.mounts": "[1]"})


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("storage.mounts", "relative", "Expected an absolute path"),
        ("listen.tls", "*", "Expected HOST:PORT"),
        ("identity.hardware_id", "x", "Expected a UUID in lower case"),
    ],
)
def test_what_a_text_must_be_is_told_in_words(setting: str, value: str, expected: str) -> None:
    with pytest.raises(BadParameter) as caught:
        load(None, {}, {setting: value})
    assert caught.value.reason == f"{expected} (in the command line)"


@pytest.mark.parametrize("setting", ["jobs.x", "x.y", "jobs", ""])
def test_a_setting_of_the_command_line_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(BadParameter, match="the command line"):
        load(None, {}, {setting: "1"})


def test_a_named_file_must_be_there_and_be_text(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="does not exist"):
        load(tmp_path / "missing", {})
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(BadParameter, match="binary"):
        load(tmp_path / "binary", {})
    with pytest.raises(BadParameter):
        load(tmp_path, {})


def test_the_journal_is_in_the_state_folder_unless_it_is_said() -> None:
    assert load(None, {"LEASEHOLD_FOLDERS_STATE": "/s"}).journal == Path("/s/jobs")
    assert load(None, {"LEASEHOLD_FOLDERS_JOBS": "/j"}).journal == Path("/j")


def test_addresses() -> None:
    assert split_address("*:54321") == (None, 54321)
    assert split_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert split_address("[::1]:80") == ("::1", 80)


def test_the_line_of_a_setting() -> None:
    text = '[log]\nlevel = "info"\n[jobs]\n# rate = 1\nrate = 2\n'
    assert [line_of(text, name) for name in ("log.level", "jobs.rate", "jobs")] == [2, 5, 3]
    assert line_of(text, "listen.tls") is None
