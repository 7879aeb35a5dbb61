"""The configuration of the engine: what is the same as of the agent is tested there."""

import re
import tomllib
from pathlib import Path

import pytest

from engine.commands.copy_limits import CopyLimits
from engine.config import SECTIONS, Config
from engine.config_file import PATH, load
from engine.config_text import commented, effective
from engine.heard import Bounds
from engine.rest.settings import RestSettings
from engine.whole import copy_limits, rest_settings
from protocol.errors import BadParameter


def test_without_a_file_the_defaults_hold() -> None:
    assert not PATH.exists()
    assert load(None, {}) == Config()


def test_variables_of_the_engine_are_none_of_the_agent_and_the_other_way_round() -> None:
    told = {
        "LEASEHOLD_LOG_LEVEL": "debug",
        "LEASEHOLD_ENGINE": "https://x",
        "LEASEHOLD_ENGINE_CA": "/x",
    }
    assert load(None, told) == Config()
    assert load(None, {"LEASEHOLD_ENGINE_LOG_LEVEL": "debug"}).log.level == "debug"


def test_numbers_in_a_list_are_read_from_a_variable() -> None:
    found = load(None, {"LEASEHOLD_ENGINE_POLLING_PAUSES": "0.5, 2"})
    assert found.polling.pauses == (0.5, 2.0)
    with pytest.raises(BadParameter, match="LEASEHOLD_ENGINE_POLLING_PAUSES"):
        load(None, {"LEASEHOLD_ENGINE_POLLING_PAUSES": "soon"})


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"listen.tls": "*:1"}, "configuration"),
        ({"listen.plain": "x"}, "listen.plain"),
        ({"polling.pauses": ""}, "polling.pauses"),
        ({"polling.pauses": "-1"}, "polling.pauses"),
        ({"commands.tries": "0"}, "commands.tries"),
        ({"limits.body": "1"}, "limits.body"),
        ({"limits.copies_per_host": "-1"}, "limits.copies_per_host"),
        ({"hosts.grace": "-1"}, "hosts.grace"),
        ({"database.urls": "x"}, "database.urls"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, str], name: str) -> None:
    with pytest.raises(BadParameter) as caught:
        load(None, {}, settings)
    assert caught.value.name == name


def test_the_state_is_in_one_folder_unless_it_is_said() -> None:
    config = load(None, {}, {"folders.state": "/s"})
    assert config.database_url == "sqlite:////s/engine.sqlite"
    assert config.key_file == Path("/s/secrets.key")
    other = load(None, {}, {"database.url": "postgresql://x/y", "database.key_file": "/k"})
    assert (other.database_url, other.key_file) == ("postgresql://x/y", Path("/k"))


def test_the_effective_configuration_is_read_again_as_it_is(tmp_path: Path) -> None:
    config = load(None, {}, {"polling.pauses": "1,2", "hosts.ca": "/ca", "limits.token_life": "2h"})
    (tmp_path / "engine.toml").write_text(effective(config))
    assert load(tmp_path / "engine.toml", {}) == config


def test_the_default_file_explains_every_setting_and_changes_nothing(tmp_path: Path) -> None:
    text = commented()
    assert tomllib.loads(text) == {name: {} for name in SECTIONS}
    for name, section in SECTIONS.items():
        lines = text.partition(f"[{name}]\n")[2].partition("\n[")[0].splitlines()
        for key in section.__struct_fields__:
            [at] = [n for n, line in enumerate(lines) if re.match(rf"# {key} =", line)]
            assert re.match(r"# \S.*\.$", lines[at - 1]), key
    setting = re.compile(r"^# (\w+ = .+)$", re.MULTILINE)
    (tmp_path / "engine.toml").write_text(setting.sub(r"\1", text))
    assert load(tmp_path / "engine.toml", {}) == Config()


def test_the_defaults_are_those_of_the_parts() -> None:
    """Which tests of the parts know nothing of a configuration."""
    polling, bounds = Config().polling, Bounds()
    assert (polling.calls, polling.fences) == (bounds.calls, bounds.fences)
    assert (polling.held, polling.alarm, polling.nobody) == (
        bounds.held,
        bounds.alarm,
        bounds.nobody,
    )
    assert rest_settings(Config()) == RestSettings()


def test_no_limit_of_copies_is_none_or_0() -> None:
    assert copy_limits(Config()) == CopyLimits()
    told = {"LEASEHOLD_ENGINE_LIMITS_COPIES_PER_DOMAIN": "8"}
    given = load(None, told, {"limits.copies_per_host": "0"})
    assert copy_limits(given) == CopyLimits(per_domain=8)
    given = load(None, {}, {"limits.copies_per_host": "3"})
    assert copy_limits(given) == CopyLimits(per_host=3)
