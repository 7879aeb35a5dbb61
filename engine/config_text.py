"""The configuration of the engine as TOML: the effective one, and the default, explained."""

from engine.config import Config
from protocol import settings_text

HEAD = """\
# Configuration of the engine. A line without its `#` sets what it names; these are the defaults.
# The environment wins over this file (LEASEHOLD_ENGINE_LOG_LEVEL=debug), the command line over both
# (--set log.level=debug). `leasehold engine config` shows what is in effect.
"""


def effective(config: Config) -> str:
    """As protocol.settings_text.effective."""
    return settings_text.effective(config)


def commented() -> str:
    """As protocol.settings_text.commented."""
    return settings_text.commented(Config(), HEAD)
