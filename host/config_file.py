"""Reading the configuration of the agent: protocol/settings_file.py says how.

A variable of the environment is LEASEHOLD_<SECTION>_<KEY>, such as LEASEHOLD_JOBS_CONCURRENCY.
"""

from collections.abc import Mapping
from pathlib import Path

from host.config import Config
from protocol import settings_file
from protocol.settings_file import Form

PATH = Path("/etc/leasehold/host.toml")
FORM = Form(Config, PATH, "LEASEHOLD_")


def load(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Config:
    """As protocol.settings_file.load."""
    return settings_file.load(FORM, path, environment, settings)
