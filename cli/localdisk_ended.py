"""What is told of a local disk that was to be prepared, wherever that was done."""

from typing import Any

from cli import exits
from cli.copy_ended import Ended, story
from cli.localdisk_request import Order
from cli.output import Output
from cli.sizes import format_rate, format_size
from host.local_disk_request import Prepared
from jobs.status import Status
from protocol.errors import ActionStopped


def ready(
    order: Order, made: Prepared, copied: dict[str, Any] | None, host: str | None, out: Output
) -> int:
    """The exit code. copied: bytes, seconds and rate; None: nothing had to be copied."""
    facts = {**made.to_rpc(), **_names(order), "host": host, **(copied or {})}
    if made.changed:
        out.warn(
            f"local disk {made.vol_id}: its source has changed since it was copied; it is used as"
            " it is, because its VM has written to it (--again copies anew, over that)"
        )
    if copied is not None:
        amount = f"{format_size(copied['bytes'])} in {copied['seconds']} s"
        out.note(f"copied {amount} ({format_rate(copied['rate'])})")
    elif made.reused:
        out.note(f"local disk {made.vol_id} is there already")
    out.result(facts, made.path)
    return exits.OK


def ended(
    order: Order, job: Ended, host: str | None, out: Output, *, began: bool, look: str
) -> int:
    """The exit code, after the job failed or was aborted. began: it was about to copy."""
    aborted = job.status is Status.ABORTED
    error = job.error or ActionStopped()
    facts = {**_names(order), "vol_id": order.vol_id, "host": host, "job": job.info()}
    if out.json:
        out.error(ActionStopped() if aborted else error, facts)
    else:
        out.warn(f"{story(job, error, aborted=aborted)}; {look}")
    if aborted:
        return exits.ABORTED
    return exits.after_job(job.error) if began else exits.before_job(error)


def amounts(info: dict[str, Any]) -> dict[str, Any]:
    """bytes, seconds and rate of a job that is done, as its info tells them."""
    copied = int(info.get("bytes", 0))
    seconds = info.get("seconds")
    if seconds is None:
        seconds = round(max(0.0, info.get("ended", 0) - info.get("started", 0)), 3)
    return {"bytes": copied, "seconds": seconds, "rate": int(copied / seconds) if seconds else 0}


def _names(order: Order) -> dict[str, Any]:
    return {"img_id": order.img_id, "vm_id": order.vm, "backend": order.backend}
