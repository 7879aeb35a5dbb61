"""What volumes are, for programs and for people. Everything here blocks."""

import os
from collections.abc import Mapping
from typing import Any

from cli.sizes import format_size
from protocol.errors import Error, to_rpc
from storage import volume, volume_chain
from storage.description import Domain
from storage.volume import Volume


def described(one: Volume) -> dict[str, Any]:
    """The metadata of a volume, by the names of the contract, and where it is."""
    metadata = one.metadata
    return {
        "sd_id": one.sd_id,
        "img_id": one.img_id,
        "vol_id": one.id,
        "path": one.path,
        "format": volume.FORMATS.get(metadata.format, metadata.format),
        "capacity": metadata.capacity,
        "type": metadata.type,
        "voltype": metadata.voltype,
        "parent": one.parent,
        "legality": metadata.legality,
        "generation": metadata.generation,
        "sequence": metadata.sequence,
        "disktype": metadata.disktype,
        "description": metadata.description,
        "ctime": metadata.ctime,
        "image": metadata.image,
        "domain": metadata.domain,
    }


def details(domain: Domain, img_id: str, vol_id: str) -> dict[str, Any]:
    """One volume with the bytes that it takes up and its chain, or what is wrong with that.

    Raises as storage.volume.read.
    """
    found = volume.read(domain, img_id, vol_id)
    facts = {**described(found), "actual_size": os.stat(found.path).st_blocks * 512}
    try:
        chain = volume_chain.chain(domain, found)
        volume_chain.inspect(domain, chain)
    except Error as e:
        return {**facts, "error": to_rpc(e)["message"]}
    return {**facts, "chain": [one.id for one in chain]}


def rows(domain: Domain) -> list[dict[str, Any]]:
    """Every volume of a domain; what is wrong with one does not hide the others."""
    damaged: list[dict[str, Any]] = []

    def tell(path: str, error: Error) -> None:
        damaged.append({"path": path, "error": to_rpc(error)["message"]})

    return [described(one) for one in volume.volumes(domain, damaged=tell)] + damaged


def line(row: Mapping[str, Any]) -> str:
    """A row of `leasehold volume list`."""
    if "error" in row:
        return f"{row['path']}  {row['error']}"
    size = format_size(row["capacity"])
    state = f"{row['voltype']}  {row['legality']}  generation {row['generation']}"
    return f"{row['img_id']}  {row['vol_id']}  {row['format']:5}  {size:>5}  {state}"


def lines(facts: Mapping[str, Any]) -> str:
    """One fact a line."""
    texts = {**facts, "parent": facts["parent"] or "none"}
    if "chain" in texts:
        texts["chain"] = " on ".join(texts["chain"])
    return "\n".join(f"{key + ':':12} {value}" for key, value in texts.items())
