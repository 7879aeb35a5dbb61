"""A file that changes while it is looked at fools nobody."""

import os
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import ImageRefused
from storage import image_file, qcow2
from storage.signature import PROBED
from tests.storage.headers import Crafted


@pytest.mark.parametrize("kind", ["fifo", "link", "file"])
def test_file_that_is_replaced_before_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    (tmp_path / "secret").write_bytes(b"secret")
    really_open = os.open

    def replace_and_open(name: str, flags: int, *args: Any) -> int:
        path.rename(tmp_path / "old")
        match kind:
            case "fifo":
                os.mkfifo(path)
            case "link":
                path.symlink_to("secret")
            case _:
                path.write_bytes(b"new")
        return really_open(name, flags, *args)

    monkeypatch.setattr(os, "open", replace_and_open)
    with pytest.raises(ImageRefused, match=r"was replaced|symbolic link"):
        image_file.read(str(path))


def test_read_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("/etc/passwd")
    with pytest.raises(ImageRefused, match="it is a symbolic link"):
        image_file.read(f"{tmp_path}/x")


@pytest.mark.parametrize("cluster_bits", [9, 16, 21])
def test_head_holds_the_first_cluster_and_no_more_than_that(
    tmp_path: Path, cluster_bits: int
) -> None:
    data = Crafted(cluster_bits=cluster_bits, size=512).build()
    (tmp_path / "x").write_bytes(data)
    head = image_file.read(f"{tmp_path}/x").head
    assert head == data[: max(PROBED, 1 << cluster_bits)]
    assert qcow2.parse(head).cluster_bits == cluster_bits


def test_head_of_another_file_is_short(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(1 << 20))
    assert len(image_file.read(f"{tmp_path}/x").head) == PROBED


def test_descriptors_are_closed(tmp_path: Path) -> None:
    Crafted().write(tmp_path / "x")
    before = os.listdir("/proc/self/fd")
    image_file.read(f"{tmp_path}/x")
    with pytest.raises(ImageRefused):
        image_file.read(str(tmp_path))
    assert os.listdir("/proc/self/fd") == before
