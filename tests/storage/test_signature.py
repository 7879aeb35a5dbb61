"""The format by its first bytes, against what qemu-img would guess."""

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from storage.signature import guess


@pytest.mark.parametrize(
    ("head", "format"),
    [
        (b"", "raw"),
        (b"QFI", "raw"),
        (b"QFI\xfb\0\0\0\3", "qcow2"),
        (b"QFI\xfb\0\0\0\1", "qcow"),
        (b"QFI\xfb\0\0\0\x09", "qcow2"),  # the header parser says what is wrong with it
        (b"\xeb\x63\x90" + bytes(500), "raw"),
        (b"#!/bin/sh\necho version=1\n", "raw"),
        (b"# comment\n\n  \nversion=3\r\n", "vmdk"),
        (bytes(64) + b"\x7f\x10\xda\xbe", "vdi"),
    ],
)
def test_format_is_guessed(head: bytes, format: str) -> None:
    assert guess(head) == format


LINES = st.sampled_from(["#", "# x", "", " ", "  ", "x", "version=1", "version=2", "version=9"])
TEXTS = st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n"])), max_size=6)


@pytest.mark.tools("qemu-img")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS)
@example([("# Disk DescriptorFile", "\n"), ("version=1", "\n")])
@example([("#", "\n"), (" ", "\r\n"), ("version=2", "\r\n")])
def test_no_text_is_a_vmdk_for_qemu_that_is_raw_for_us(
    tmp_path: Path, lines: list[tuple[str, str]]
) -> None:
    """Or qemu-img would open the extents that it names."""
    text = "".join(line + end for line, end in lines).encode().ljust(1024, b"\n")
    if guess(text) != "raw":
        return
    (tmp_path / "x").write_bytes(text)
    node = json.dumps({"file": {"driver": "file", "filename": str(tmp_path / "x")}})
    argv = ["qemu-img", "info", "--output=json", f"json:{node}"]
    seen = subprocess.run(argv, check=True, capture_output=True, timeout=60)
    assert json.loads(seen.stdout)["format"] == "raw"
