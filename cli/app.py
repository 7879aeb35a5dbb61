"""The tree of commands. Importing it costs typer and nothing else of weight."""

from typing import Annotated

import typer

from cli import agent, copy, domain, engine, host, job, lease, localdisk, managed, pki, volume
from cli.command import group

app = group(
    "leasehold",
    "Copy virtual disks as tracked jobs.",
    example="copy disk.qcow2 /dev/vg0/disk",
    completion=True,
)


@app.callback()
def leasehold(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Copy virtual disks as tracked jobs, whose truth lives in a lease on shared storage."""


app.add_typer(domain.app)
app.add_typer(engine.app)
agent.register(host.app)
app.add_typer(host.app)
app.add_typer(job.app)
app.add_typer(lease.app)
app.add_typer(localdisk.app)
app.add_typer(managed.app)
app.add_typer(pki.app)
app.add_typer(volume.app)
copy.register(app)
