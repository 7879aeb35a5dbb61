"""Lease.rebuild_leases: its results beside those of vdsm."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from leases import index, verbs
from leases.embedded import EmbeddedStore
from leases.geometry import Geometry
from leases.index import EMPTY
from leases.volume import format_volume
from protocol.errors import Error
from tests.leases.conftest import SD_ID
from tests.leases.damaged import FORMATTED, MIB, NOW, Volume, create, usable
from tests.leases.vectors import load

VECTORS = load("lease_volume")
LEASES = VECTORS["inputs"]["leases"]


@pytest.fixture
async def golden(tmp_path: Path) -> AsyncIterator[Volume]:
    """The volume that all golden variants were made from (sparse)."""
    Path(tmp_path, "ids").touch()
    store = EmbeddedStore(SD_ID, str(tmp_path / "xleases"), str(tmp_path / "ids"), Geometry())
    with open(store.path, "wb") as file:
        file.truncate(VECTORS["sizes"]["volume_size_used_here"])
    format_volume(store.volume, now=FORMATTED)
    for letter in "ABC":
        await create(store, LEASES[letter])
    await verbs.delete(store, LEASES["B"])
    await create(store, LEASES["D"])
    yield Volume(store)
    Path(store.path).unlink()  # pytest would keep it


# Where our rebuild gives another result than vdsm's, and why.
DIFFERENT = {
    # vdsm takes the damaged record, in which it still reads the name, for another record of the
    # same lease, and clears lease and record. We take a lease for being elsewhere only when another
    # record is its.
    "record 0: bad offset text": {0: index.record(LEASES["A"], 3 * MIB)},
    # vdsm keeps the record, and its lookups go on not finding the lease.
    "record 0: separator byte 48 is not NUL": {0: index.record(LEASES["A"], 3 * MIB)},
    # vdsm keeps the record of no lease, and its slot can never be used again.
    "first free record (3): end byte is not LF": {3: EMPTY},
}


@pytest.mark.parametrize("variant", VECTORS["variants"], ids=lambda v: v["name"])
async def test_a_damaged_index_is_rebuilt_as_by_vdsm(
    golden: Volume, variant: dict[str, Any]
) -> None:
    store = golden.store
    for edit in variant["edits"]:
        golden.write(MIB + edit["index_offset"], bytes.fromhex(edit["hex"]))
    if "truncate_file_to" in variant:
        os.truncate(store.path, variant["truncate_file_to"])
    wanted = variant["rebuild_index"]
    before = golden.read(MIB, VECTORS["sizes"]["index_size"])
    if "error" in wanted:
        with pytest.raises(Error) as caught:
            await verbs.rebuild(store, now=NOW)
        assert type(caught.value).__name__ == wanted["error"]
        assert golden.read(MIB, len(before)) == before
        return
    await verbs.rebuild(store, now=NOW)
    after = golden.read(MIB, len(before))
    assert after[:512] == index.metadata(SD_ID, wanted["mtime"])
    final = [bytes.fromhex(r) for r in VECTORS["final_records_0_to_7"]]
    if "records_0_to_3" in wanted:
        final[:4] = [bytes.fromhex(r) for r in wanted["records_0_to_3"]]
    for number, record in DIFFERENT.get(variant["name"], {}).items():
        assert record != final[number]
        final[number] = record
    assert after[512:] == b"".join(final) + EMPTY * (3960 - 8)
    listed = {i: {"offset": o, "updating": u} for i, o, u in await verbs.leases(store)}
    if variant["name"] in DIFFERENT:
        assert listed.keys() == {LEASES[letter] for letter in "ACD"}
        await usable(store, LEASES["A"])
    else:
        assert listed == wanted["leases"]
