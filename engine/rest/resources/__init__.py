"""What REST serves: one kind of thing, one module."""

from engine.rest import openapi
from engine.rest.operation import Operation
from engine.rest.resources import (
    command_details,
    datacenters,
    disk_actions,
    disks,
    domain_limits,
    events,
    hosts,
    job_details,
    jobs,
    quarantine,
    root,
    snapshots,
    storagedomains,
    users,
    webhooks,
)

OPERATIONS: tuple[Operation, ...] = (
    *root.OPERATIONS,
    *disks.OPERATIONS,
    *disk_actions.OPERATIONS,
    *storagedomains.OPERATIONS,
    *datacenters.OPERATIONS,
    *hosts.OPERATIONS,
    *jobs.OPERATIONS,
    *events.OPERATIONS,
    *command_details.OPERATIONS,
    *job_details.OPERATIONS,
    *quarantine.OPERATIONS,
    *snapshots.OPERATIONS,
    *domain_limits.OPERATIONS,
    *webhooks.OPERATIONS,
    *users.OPERATIONS,
    openapi.OPERATION,
)
