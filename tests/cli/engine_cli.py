"""The real command against a real engine."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.run import COMMAND, PATIENCE, ROOT, Ended


@dataclass(frozen=True)
class EngineCli:
    """home: LEASEHOLD_HOME of the commands. url: of the engine; "": that of the last login."""

    home: Path
    url: str = ""
    token: str = ""
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        own = {"LEASEHOLD_ENGINE": self.url, "LEASEHOLD_ENGINE_TOKEN": self.token}
        told = {key: value for key, value in own.items() if value}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LEASEHOLD_")}
        home = {"LEASEHOLD_HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        return {**kept, **home, **told, **self.more}

    def __call__(self, *arguments: object, stdin: str = "", patience: float = PATIENCE) -> Ended:
        """`leasehold engine ...`"""
        done = subprocess.run(
            [*COMMAND, "engine", *map(str, arguments)],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    def started(self, *arguments: object) -> "subprocess.Popen[str]":
        """The command while it runs; to be used in a `with` that ends it."""
        return subprocess.Popen(
            [*COMMAND, "engine", *map(str, arguments)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
