"""The golden vectors of the lease formats (tests/vectors/README.md)."""

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "vectors"


@cache
def load(name: str) -> Any:
    """One file of the vectors. It is shared: do not change it."""
    return json.loads(Path(FOLDER, f"{name}.json").read_text())
