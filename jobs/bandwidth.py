"""How fast one copy may be, when all of them together are limited as well."""


def share(own: int | None, total: int | None, concurrency: int) -> int | None:
    """The limit of one job in bytes per second; None: as fast as it goes.

    own: what the job itself was limited to. total: of all jobs of this host together, of which
    `concurrency` may run at once. The limit of a copy tool cannot be changed while it runs, so
    each gets the part that holds the total even when all of them run.
    """
    limits = [own] if own is not None else []
    if total is not None:
        limits.append(max(1, total // concurrency))
    return min(limits, default=None)
