"""Secrets of block nodes: tools read them from files, and no command shows them."""

import json
from pathlib import Path
from typing import Any

import pytest

from processes import qemu_img
from processes.image_node import SECRET, ref, secrets
from protocol.errors import ToolFailed
from tests.servers import MIB
from tests.tgt import LUN, TARGET, tgt

IQN = "iqn.2026-01.org.example:host1"


def iscsi(portal: str, path: Path | str) -> dict[str, Any]:
    where = {"transport": "tcp", "portal": portal, "target": TARGET, "lun": LUN}
    who = {"initiator-name": IQN, "user": "joe", SECRET: str(path)}
    return {"driver": "iscsi", **where, **who}


def test_a_secret_is_named_by_its_file_and_told_by_an_id() -> None:
    one, other = iscsi("h", "/run/one"), iscsi("h", "/run/o,ther")
    told = secrets({"driver": "raw", "file": one}, {"driver": "throttle", "file": {"file": other}})
    objects = [word for word in told if word != "--object"]
    assert len(told) == 4
    assert {word.partition(",file=")[2] for word in objects} == {"/run/one", "/run/o,,ther"}
    shown = json.loads(ref({"driver": "raw", "file": one}).removeprefix("json:"))
    [wanted] = [word for word in objects if word.endswith("/run/one")]
    assert wanted == f"secret,id={shown['file']['password-secret']},file=/run/one"
    assert shown == {
        "driver": "raw",
        "file": {**one, "password-secret": shown["file"]["password-secret"]},
    }
    assert one[SECRET] == "/run/one"  # a node is not changed by being shown


def test_a_file_that_two_nodes_name_is_told_once() -> None:
    assert len(secrets(iscsi("h", "/x"), iscsi("h", "/x"))) == 2


def test_a_node_without_secrets_is_as_it_was() -> None:
    node = {"driver": "raw", "file": {"driver": "file", "filename": "/x"}, "backing": None}
    assert secrets(node) == []
    assert json.loads(ref(node).removeprefix("json:")) == node


@pytest.mark.tools("tgtd", "tgtadm", "qemu-img")
async def test_every_tool_reads_it(tmp_path: Path) -> None:
    password = tmp_path / "a, password"
    password.write_text("what joe knows")
    wrong = tmp_path / "wrong"
    wrong.write_text("what jim knows")
    with tgt(tmp_path, MIB) as target:
        target.let_in(IQN)
        target.ask_for("joe", "what joe knows")
        node = iscsi(target.portal, password)
        raw = {"driver": "raw", "file": node}
        assert (await qemu_img.info(raw)).virtual_size == MIB
        assert (await qemu_img.measure(raw, "qcow2")).required > 0
        assert await qemu_img.head(node, 512) == bytes(512)
        assert (await qemu_img.map_(raw, MIB)).total in (0, MIB)
        assert await qemu_img.compare(raw, raw, limit=64 * MIB)
        with pytest.raises(ToolFailed, match="Authentication failure"):
            await qemu_img.info({"driver": "raw", "file": iscsi(target.portal, wrong)})
