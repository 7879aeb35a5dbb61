"""The file with the domains of managed block storage, and what may stand on the command line."""

import os
import stat
import tomllib
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio

from cli import managed_known, managed_options
from cli.managed_known import ManagedDomain, Secret
from protocol.errors import BadParameter, NoSuchManagedDomain
from tests.cli.managed_storage import NAME, ManagedCli

SECRET = "a very secret word"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEASEHOLD_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def cli(tmp_path: Path) -> ManagedCli:
    return ManagedCli(tmp_path / "home")


def add(cli: ManagedCli, *words: object) -> None:
    cli.done("domain", "add", NAME, "--adapter", "file", "--no-check", *words)


async def test_what_is_added_is_read_again_whatever_it_is(home: Path) -> None:
    options = {
        "adapter": "file",
        "text": 'quotes " and \\ and \u00e4 \U0001f600 \x7f\u2028',
        "true": True,
        "number": 3,
        "fraction": 1.5,
        "empty": "",
        "list": ["a", [1, 2], {"x y": False}],
        "table": {"a.b": {"c": "d"}, "none": {}},
        "dotted.key": "1",
        "": "",
    }
    del options[""]
    secrets = {"key": Secret(env="KEY"), "other": Secret(file="/etc/a b")}
    domain = ManagedDomain(uuid4(), options, secrets)
    await managed_known.add("x.y-z_1", domain)
    await managed_known.add("other", ManagedDomain(uuid4()))
    assert managed_known.known()["x.y-z_1"] == domain
    assert list(managed_known.known()) == ["other", "x.y-z_1"]
    assert managed_known.found(str(domain.id)) == ("x.y-z_1", domain)
    await managed_known.remove("x.y-z_1")
    assert list(managed_known.known()) == ["other"]
    with pytest.raises(NoSuchManagedDomain):
        await managed_known.remove("x.y-z_1")


async def test_two_who_add_at_once_both_get_theirs(home: Path) -> None:
    async with trio.open_nursery() as nursery:
        for name in "abcdefgh":
            nursery.start_soon(managed_known.add, name, ManagedDomain(uuid4()))
    assert list(managed_known.known()) == list("abcdefgh")


async def test_a_name_or_id_that_is_taken_changes_nothing(home: Path) -> None:
    first = ManagedDomain(uuid4())
    await managed_known.add("a", first)
    for name, one in (("a", ManagedDomain(uuid4())), ("b", first)):
        with pytest.raises(BadParameter):
            await managed_known.add(name, one)
    assert managed_known.known() == {"a": first}


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "x" * 64, str(UUID(int=1)), "\u00e4"])
def test_a_name_is_a_word_and_no_id(home: Path, name: str) -> None:
    with pytest.raises(BadParameter):
        managed_known.checked(name, uuid4())


@pytest.mark.parametrize(
    "content",
    [
        "not toml =",
        "version = 2",
        "unknown = 1",
        '[domains.a]\nid = "x"',
        "[domains.a]\n",
        '[domains.a]\nid = "00000000-0000-4000-8000-000000000001"\nmore = 1',
        '[domains."a b"]\nid = "00000000-0000-4000-8000-000000000001"',
        '[domains.a]\nid = "00000000-0000-4000-8000-000000000001"\nsecrets = { k = {} }',
        '[domains.a]\nid = "00000000-0000-4000-8000-000000000001"\n'
        'secrets = { k = { env = "A" } }\noptions = { k = 1 }',
        '[domains.a]\nid = "00000000-0000-4000-8000-000000000001"\n'
        '[domains.b]\nid = "00000000-0000-4000-8000-000000000001"',
        "\udcff",
    ],
)
def test_a_damaged_file_is_an_error_and_is_never_written_over(
    home: Path, content: str, cli: ManagedCli
) -> None:
    path = home / "managed.toml"
    path.write_bytes(content.encode(errors="surrogateescape"))
    before = path.read_bytes()
    with pytest.raises(BadParameter, match="damaged"):
        managed_known.known()
    with pytest.raises(BadParameter, match="damaged"):
        trio.run(managed_known.add, "new", ManagedDomain(uuid4()))
    assert path.read_bytes() == before


def test_damaged_connections_are_an_error_and_stay(cli: ManagedCli) -> None:
    add(cli, "--option", f"path={cli.home / 'disks'}")
    path = cli.home / "managed-connections.json"
    path.write_text("{")
    for words in (("list",), ("domain", "remove", NAME), ("volume", "delete", NAME, uuid4())):
        ended = cli.managed(*words)
        assert (ended.code, "damaged" in ended.err) == (2, True)
    assert path.read_text() == "{"


def test_a_value_that_is_json_is_that() -> None:
    given = ["a=true", "b=3", "c=text", "d=", 'e="3"', 'f=["x"]', "g=x=y", "h=10.0.0.1:3260"]
    made = {"a": True, "b": 3, "c": "text", "d": "", "e": "3", "f": ["x"], "g": "x=y"}
    assert managed_options.options(given) == {**made, "h": "10.0.0.1:3260"}


@pytest.mark.parametrize(
    "given", [["a"], ["=b"], ["a=1", "a=2"], ["a=null"], ["a=[null]"], ["a=\n"], ["a=\udcff"]]
)
def test_an_option_that_cannot_be_kept_is_refused(given: list[str]) -> None:
    with pytest.raises(BadParameter):
        managed_options.options(given)


@pytest.mark.parametrize("key", ["key", "san_password", "API_TOKEN", "chap_secret", "ssh_key"])
def test_a_secret_is_not_taken_as_an_option_nor_shown(key: str) -> None:
    with pytest.raises(BadParameter) as refused:
        managed_options.options([f"{key}={SECRET}"])
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "given", [SECRET, "env:", "env:1A", "env:A-B", "file:relative", "file:", f"other:{SECRET}"]
)
def test_where_a_secret_is_must_be_said_and_it_is_not_shown(given: str) -> None:
    with pytest.raises(BadParameter) as refused:
        managed_options.secrets([f"key={given}"])
    assert SECRET not in str(refused.value)


def test_a_secret_is_read_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    monkeypatch.setenv("WORD", SECRET)
    secrets = {"a": Secret(env="WORD"), "b": Secret(file=str(path))}
    assert managed_options.revealed(secrets) == {"a": SECRET, "b": SECRET}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(mode)
    with pytest.raises(BadParameter, match="chmod 600") as refused:
        managed_options.revealed({"a": Secret(file=str(path))})
    assert SECRET not in str(refused.value)


def test_a_secret_that_is_missing_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "binary").chmod(0o600)
    for secret in (
        Secret(env="NOT_SET_AT_ALL"),
        Secret(file=str(tmp_path / "missing")),
        Secret(file=str(tmp_path / "fifo")),
        Secret(file=str(tmp_path / "binary")),
    ):
        with pytest.raises(BadParameter, match="the_key"):
            managed_options.revealed({"the_key": secret})


def test_no_secret_gets_into_the_home_or_the_output(cli: ManagedCli) -> None:
    told = cli.told(WORD=SECRET)
    add(told, "--option", f"path={cli.home / 'disks'}", "--secret", "key=env:WORD")
    for words in (("list",), ("info", NAME)):
        for more in ((), ("--json",)):
            ended = told.managed("domain", *words, *more)
            assert SECRET not in ended.out + ended.err
    file = cli.home / "managed.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert tomllib.loads(file.read_text())["domains"][NAME]["secrets"] == {"key": {"env": "WORD"}}
    assert [path for path in cli.home.rglob("*") if path.is_file() and SECRET in _text(path)] == []
    refused = cli.managed("domain", "info", NAME)
    assert (refused.code, "WORD" in refused.err) == (2, True)


def _text(path: Path) -> str:
    return path.read_text(errors="replace")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--adapter", "no-such-one"), "no program"),
        (("--adapter", "../x"), "name"),
        ((), "cinderlib"),
        (("--adapter", "file", "--option", "path=relative"), "absolute"),
        (("--adapter", "file"), "path"),
        (("--adapter", "file", "--option", "adapter=tgt"), "--adapter"),
        (("--adapter", "file", "--option", "k=1", "--secret", "k=env:K"), "option, too"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_domain_that_cannot_work_is_not_added(
    cli: ManagedCli, words: tuple[str, ...], said: str
) -> None:
    ended = cli.told(LEASEHOLD_ADAPTERS="/nowhere").managed("domain", "add", NAME, *words)
    assert (ended.code, said in ended.err) == (2, True), ended
    assert cli.done("domain", "list") == {"domains": []}
