"""The configuration of the agent as TOML: the effective one, and the default, explained."""

from host.config import Config
from protocol import settings_text

HEAD = """\
# Configuration of the agent. A line without its `#` sets what it names; these are the defaults.
# The environment wins over this file (LEASEHOLD_JOBS_CONCURRENCY=4), the command line over both
# (--set jobs.concurrency=4). `leasehold host config` shows what is in effect.
"""


def effective(config: Config) -> str:
    """As protocol.settings_text.effective."""
    return settings_text.effective(config)


def commented() -> str:
    """As protocol.settings_text.commented."""
    return settings_text.commented(Config(), HEAD)
