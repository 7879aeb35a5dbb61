"""The id of the host in job records."""

from pathlib import Path
from uuid import UUID

import pytest

from cli import hardware
from protocol.errors import BadParameter

PRODUCT = "4c4c4544-0043-4810-8056-b4c04f395931"
MACHINE = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEASEHOLD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hardware, "PRODUCT_UUID", tmp_path / "product")
    monkeypatch.setattr(hardware, "MACHINE_ID", tmp_path / "machine")
    return tmp_path


async def test_the_product_uuid_comes_first(sources: Path) -> None:
    (sources / "product").write_text(PRODUCT.upper() + "\n")
    (sources / "machine").write_text(MACHINE)
    assert await hardware.hardware_id() == PRODUCT


@pytest.mark.parametrize(
    "product",
    ["", "Not Settable", "00000000-0000-0000-0000-000000000000", "f" * 32, "\xff", "1234"],
)
async def test_without_one_it_comes_from_the_machine_id_which_it_does_not_tell(
    sources: Path, product: str
) -> None:
    (sources / "product").write_text(product)
    (sources / "machine").write_text(MACHINE + "\n")
    found = await hardware.hardware_id()
    assert found == await hardware.hardware_id() == str(UUID(found))
    assert MACHINE not in found.replace("-", "")


@pytest.mark.parametrize("machine", [None, "", "uninitialized\n", "0" * 32])
async def test_without_both_one_is_made_once(sources: Path, machine: str | None) -> None:
    if machine is not None:
        (sources / "machine").write_text(machine)
    found = await hardware.hardware_id()
    assert found == await hardware.hardware_id() == str(UUID(found))


async def test_a_damaged_one_is_an_error_and_is_not_replaced(sources: Path) -> None:
    (sources / "home").mkdir()
    file = sources / "home" / "hardware-id"
    file.write_text("garbage")
    with pytest.raises(BadParameter, match="hardware-id is damaged"):
        await hardware.hardware_id()
    assert file.read_text() == "garbage"
