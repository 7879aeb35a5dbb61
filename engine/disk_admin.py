"""The name and the description of a disk: changed without a command, as storage knows neither."""

from sqlalchemy import Connection

from engine.admin import Admin
from engine.db import called, disks
from engine.names import checked_name, checked_text


async def rename_disk(admin: Admin, disk: str, *, name: str, description: str) -> None:
    """Raises NoSuchObject (4400), BadParameter (1000)."""
    checked_name("name", name)
    checked_text("description", description)

    def work(c: Connection) -> None:
        disks.change(c, disk, name=name, description=description)

    await admin.change("disk", disk, lambda c: f"disk {called.disk(c, disk)} is named {name}", work)
