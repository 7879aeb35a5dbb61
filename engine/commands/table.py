"""All commands of the engine, by name."""

from engine.commands.add_disk import ADD_DISK
from engine.commands.copy_disk import COPY_DISK
from engine.commands.extend_disk import EXTEND_DISK
from engine.commands.move_disk import MOVE_DISK
from engine.commands.remove_disk import REMOVE_DISK
from engine.commands.snapshot_commit import SNAPSHOT_COMMIT
from engine.commands.snapshot_create import SNAPSHOT_CREATE
from engine.commands.snapshot_delete import SNAPSHOT_DELETE
from engine.commands.snapshot_preview import SNAPSHOT_PREVIEW
from engine.commands.snapshot_undo import SNAPSHOT_UNDO

TYPES = {
    kind.name: kind
    for kind in (
        ADD_DISK,
        REMOVE_DISK,
        EXTEND_DISK,
        COPY_DISK,
        MOVE_DISK,
        SNAPSHOT_CREATE,
        SNAPSHOT_PREVIEW,
        SNAPSHOT_COMMIT,
        SNAPSHOT_UNDO,
        SNAPSHOT_DELETE,
    )
}
