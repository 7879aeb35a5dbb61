"""The configuration as TOML is read again as what it was."""

import re
import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from host.config import SECTIONS, Config, Storage
from host.config_file import load
from host.config_text import commented, effective
from protocol.settings_text import written


def read(folder: Path, text: str) -> Config:
    (folder / "c.toml").write_text(text)
    return load(folder / "c.toml", {})


def test_the_effective_configuration_is_read_again_as_it_is(tmp_path: Path) -> None:
    assert read(tmp_path, effective(Config())) == Config()
    other = load(
        None,
        {
            "LEASEHOLD_JOBS_RATE": "1536K",
            "LEASEHOLD_CERTIFICATES_NAMES": 'a "b"=engine,ü=monitor',
            "LEASEHOLD_STORAGE_MOUNTS": '/a"b\\c,/ü\x7f',
            "LEASEHOLD_IDENTITY_HARDWARE_ID": "00000000-0000-4000-8000-000000000001",
            "LEASEHOLD_LISTEN_SOCKET": "",
        },
    )
    text = effective(other)
    assert 'rate = "1536K"' in text
    assert "# socket" not in text
    assert read(tmp_path, text) == other


def test_the_default_file_changes_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, commented()) == Config()


def test_the_default_file_without_its_comments_is_the_default(tmp_path: Path) -> None:
    setting = re.compile(r"^# (\w+ = .+)$", re.MULTILINE)
    text = setting.sub(r"\1", commented())
    assert read(tmp_path, text) == Config()
    assert len(setting.findall(commented())) > 10


def test_the_default_file_explains_every_setting() -> None:
    text = commented()
    for name, section in SECTIONS.items():
        lines = text.partition(f"[{name}]\n")[2].partition("\n[")[0].splitlines()
        for key in section.__struct_fields__:
            [at] = [n for n, line in enumerate(lines) if re.match(rf"# {key} =", line)]
            assert re.match(r"# \S.* .*\.$", lines[at - 1]), key
    assert max(map(len, text.splitlines())) <= 100


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_is_written_so_that_it_is_read_again(text: str) -> None:
    assert tomllib.loads(f"x = {written(text)}") == {"x": text}
    assert tomllib.loads(f"x = {written({text: text})}") == {"x": {text: text}}


def test_sections_are_told_in_their_order() -> None:
    found = re.findall(r"^\[(\w+)\]$", effective(Config(storage=Storage())), re.MULTILINE)
    assert found == list(SECTIONS)
