"""What the program of root takes from the hooks of vdsm, and what it does not."""

import json
from typing import Any

import pytest

from host.hooks.order import Answer, Prepare, Remove, encoded, read_answer, read_order
from protocol.errors import BadParameter

ID = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"
PREPARE = Prepare(
    backend="lvm", sd_id=ID, img_id=ID, vol_id=ID, vm_id=ID, path="/rhev/x", format="raw"
)


def test_orders_and_answers_are_read_as_they_were_written() -> None:
    for order in (PREPARE, Remove(vm_id=ID)):
        assert read_order(encoded(order)) == order
    for answer in (Answer(path="/dev/x"), Answer(removed=(ID,)), Answer()):
        assert read_answer(encoded(answer)) == answer


def plain(**changed: Any) -> bytes:
    return json.dumps({**json.loads(encoded(PREPARE)), **changed}).encode()


@pytest.mark.parametrize("key", ["sd_id", "img_id", "vol_id", "vm_id"])
@pytest.mark.parametrize("value", ["", "../x", f"{ID}\n", "-x", ID.upper(), None, 7], ids=repr)
def test_an_id_that_is_none_is_refused(key: str, value: object) -> None:
    with pytest.raises(BadParameter):
        read_order(plain(**{key: value}))


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "other"},
        {"type": None},
        {"backend": "zfs"},
        {"backend": "--x"},
        {"format": "vmdk"},
        {"path": "x"},
        {"path": "/a\nb"},
        {"path": "/" + "a" * 5000},
        {"managed": "yes"},
        {"config": "/tmp/x"},
        {"helper": ["sh"]},
    ],
    ids=repr,
)
def test_what_is_not_known_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(BadParameter):
        read_order(plain(**changed))


@pytest.mark.parametrize("line", [b"", b"\n", b"[]", b"{", b"[" * 50_000, b"\xff", b"null"])
def test_what_is_no_order_is_refused(line: bytes) -> None:
    with pytest.raises(BadParameter):
        read_order(line)
    with pytest.raises(BadParameter):
        read_answer(line)
