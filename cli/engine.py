"""`leasehold engine`: the control plane, as a service and as its users meet it."""

from cli import (
    engine_disk,
    engine_domain,
    engine_event,
    engine_host,
    engine_job,
    engine_quarantine,
    engine_service,
    engine_session,
    engine_snapshot,
    engine_user,
    engine_webhook,
)
from cli.command import group

app = group(
    "engine",
    "Copy and move the disks of many hosts: run the engine, and work with it.",
    example="engine disk copy web-data --to array1 --watch",
)
engine_service.register(app)
engine_session.register(app)
app.add_typer(engine_disk.app)
app.add_typer(engine_domain.app)
app.add_typer(engine_event.app)
app.add_typer(engine_host.app)
app.add_typer(engine_job.app)
app.add_typer(engine_quarantine.app)
app.add_typer(engine_snapshot.app)
app.add_typer(engine_user.app)
app.add_typer(engine_webhook.app)
