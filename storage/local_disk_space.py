"""Is there room for a local disk? Asked before anything is made; the answer names the way out."""

from processes.lvm_report import ThinPool, VolumeGroup
from protocol.errors import NoLocalSpace, ThinPoolUnsafe
from storage.local_disk import rounded

# Of the metadata of a thin pool, for one chunk that is allocated: an entry of 16 bytes in a tree
# whose blocks may be half empty, and which is changed by copying. Source: thin_metadata_size(8),
# whose answers are about 64 bytes for each chunk.
_CHUNK_ENTRY = 64
# A pool whose metadata is full turns read-only, until there is more of it: never come near that.
_METADATA_KEPT = 0.1  # of it
# Of small metadata LVM itself keeps more, and makes no volume when there is less. Source: its
# lib/metadata/thin_manip.c, pool_metadata_min_threshold.
_METADATA_OF_LVM = 4 << 20  # bytes, but a quarter of it at the most


def check_linear(group: VolumeGroup, size: int) -> None:
    """size: bytes. Raises NoLocalSpace."""
    needed = rounded(size, group.extent_size)
    if needed > group.free:
        command = f"vgextend {group.name} DEVICE"
        raise NoLocalSpace(f"volume group {group.name}", needed, group.free, command)


def check_thin(group: str, pool: ThinPool, data: int, promised: int = 0) -> None:
    """data: bytes of the chunks that will be written, of a disk that may be larger. promised: that
    copies in flight may still take; they are not free for another one.

    Raises NoLocalSpace, ThinPoolUnsafe.
    """
    name = f"{group}/{pool.name}"
    if not pool.error_when_full:
        reason = "a write that finds it full waits, a minute long or for ever, and does not fail"
        raise ThinPoolUnsafe(name, reason, f"lvchange --errorwhenfull y {name}")
    if not pool.zeroing:
        reason = "parts of its volumes hold what others had there, and would be taken for zeros"
        raise ThinPoolUnsafe(name, reason, f"lvchange --zero y {name}")
    if pool.data_percent is None or pool.metadata_percent is None:
        reason = "it does not say how full it is"
        raise ThinPoolUnsafe(name, reason, f"lvchange --activate y {name}")
    needed, promised = rounded(data, pool.chunk_size), rounded(promised, pool.chunk_size)
    available = _left(pool.size, pool.data_percent) - promised
    if needed > available:
        command = f"lvextend --size +{needed - available}b {name}"
        place = f"thin pool {name}{_beside(promised)}"
        raise NoLocalSpace(place, needed, max(0, available), command)
    entries, promised = _entries(pool, needed), _entries(pool, promised)
    needed = entries + _kept(pool.metadata_size)
    available = _left(pool.metadata_size, pool.metadata_percent) - promised
    if needed >= available:
        # Twice, as more has to stay free of more; that is enough even where nothing is free now.
        more = max(2 * (needed + promised), pool.metadata_size)
        command = f"lvextend --poolmetadatasize +{more}b {name}"
        place = f"the metadata of thin pool {name}{_beside(promised)}"
        raise NoLocalSpace(place, needed, max(0, available), command)


def _entries(pool: ThinPool, data: int) -> int:
    """Bytes of metadata for so many bytes of whole chunks."""
    return data // pool.chunk_size * _CHUNK_ENTRY


def _beside(promised: int) -> str:
    """After the place, whose free bytes are told without them."""
    if not promised:
        return ""
    return f" ({promised} more are promised to copies that go on: wait for these, or abort one)"


def _kept(metadata_size: int) -> int:
    """Bytes of metadata that stay free."""
    return max(int(metadata_size * _METADATA_KEPT), min(_METADATA_OF_LVM, metadata_size // 4))


def _left(size: int, percent: float) -> int:
    return int(size * (100.0 - percent) / 100.0)
