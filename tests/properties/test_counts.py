"""A full run tries enough of everything."""

import importlib
from pathlib import Path

from tests.properties.inputs import full_run

FORMATS = {
    "domain metadata",
    "index metadata block",
    "index record",
    "job record",
    "json-rpc",
    "leader",
    "message",
    "qcow2 header",
    "stomp frame",
    "url",
    "value block",
    "verb",
    "volume metadata",
}


def test_a_full_run_tries_100000_inputs_of_each_format() -> None:
    for path in Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(f"tests.properties.{path.stem}")
    assert full_run.keys() == FORMATS
    assert {format: count for format, count in full_run.items() if count < 100_000} == {}
