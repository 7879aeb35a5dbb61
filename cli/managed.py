"""`leasehold managed`: the volumes of managed block storage, made, attached and detached."""

from cli import managed_attach, managed_domain, managed_snapshot, managed_volume
from cli.command import group

app = group(
    "managed",
    "Make the volumes of block storage by its adapters, and attach them to hosts.",
    example="managed attach array1 66666666-7777-4888-8999-aaaaaaaaaaaa",
)
app.add_typer(managed_domain.app)
app.add_typer(managed_volume.app)
app.add_typer(managed_snapshot.app)
managed_attach.register(app)
