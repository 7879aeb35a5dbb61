"""A change of the metadata of a volume: what it makes of them."""

from dataclasses import replace

import pytest

from endpoints.volume_update import VolumeUpdate
from protocol.errors import GenerationMismatch
from storage.volume_metadata import NO_PARENT, VolumeMetadata

FOUND = VolumeMetadata(
    domain="d",
    image="i",
    parent=NO_PARENT,
    capacity=1,
    format="RAW",
    type="SPARSE",
    voltype="LEAF",
    disktype="DATA",
    description="old",
    legality="LEGAL",
    ctime=1,
    generation=999,
)


@pytest.mark.parametrize(
    ("update", "changes"),
    [
        (VolumeUpdate(), {"generation": 0}),
        (VolumeUpdate(expected=999, legality="ILLEGAL"), {"generation": 0, "legality": "ILLEGAL"}),
        (VolumeUpdate(description=""), {"generation": 0, "description": ""}),
        (VolumeUpdate(generation=2), {"generation": 2}),
        (VolumeUpdate(generation=0, description="new"), {"generation": 0, "description": "new"}),
    ],
)
def test_only_what_is_said_is_changed(update: VolumeUpdate, changes: dict[str, object]) -> None:
    assert update.applied(FOUND) == replace(FOUND, **changes)  # type: ignore[arg-type]


def test_another_generation_than_the_expected_one_is_refused() -> None:
    with pytest.raises(GenerationMismatch):
        VolumeUpdate(expected=0, generation=5).applied(FOUND)
