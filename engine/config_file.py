"""Reading the configuration of the engine: protocol/settings_file.py says how.

A variable of the environment is LEASEHOLD_ENGINE_<SECTION>_<KEY>: LEASEHOLD_ENGINE_DATABASE_URL.
"""

from collections.abc import Mapping
from pathlib import Path

from engine.config import Config
from protocol import settings_file
from protocol.settings_file import Form

PATH = Path("/etc/leasehold/engine.toml")
FORM = Form(Config, PATH, "LEASEHOLD_ENGINE_")


def load(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Config:
    """As protocol.settings_file.load."""
    return settings_file.load(FORM, path, environment, settings)
