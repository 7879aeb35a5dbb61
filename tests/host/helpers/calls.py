"""The helper programs as an agent, or a person, calls them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
HARDWARE_ID = "4C4C4544-0051-3510-8052-b4c04f4a4e31"


@dataclass(frozen=True)
class Called:
    """How a call ended. answer: JSON that it printed."""

    status: int
    output: str
    errors: str

    @property
    def answer(self) -> dict[str, Any]:
        assert self.status == 0, self
        told = json.loads(self.output)
        assert isinstance(told, dict)
        return told

    @property
    def failure(self) -> str:
        assert self.status == 1, self
        assert self.output == ""
        assert len(self.errors.splitlines()) == 1, self.errors
        return self.errors.strip()


def call(
    command: str,
    told: Any = None,
    *,
    program: str = "managedvolume-helper",
    access: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Called:
    """told: JSON, or a text as it is."""
    text = "" if told is None else told if isinstance(told, str) else json.dumps(told)
    known = {"LEASEHOLD_IDENTITY_HARDWARE_ID": HARDWARE_ID, **(environment or {})}
    if access is not None:
        known["LEASEHOLD_MANAGED_ACCESS"] = str(access)
    done = subprocess.run(
        [str(BIN / program), *([command] if command else [])],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **known},
    )
    return Called(done.returncode, done.stdout, done.stderr)


def attach(told: Mapping[str, Any], access: Path, **options: Any) -> Called:
    return call("attach", told, access=access, **options)


def detach(
    told: Mapping[str, Any], attachment: Mapping[str, Any] | None, access: Path, **options: Any
) -> Called:
    message = {"connection_info": told, "attachment": attachment, "vol_id": "vol-1"}
    return call("detach", message, access=access, **options)
