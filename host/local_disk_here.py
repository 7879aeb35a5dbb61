"""What the local disks of this host are worked on with: by the agent, or without one."""

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from host import local, own_domain
from host.allowed import Allowed
from host.config import Config
from host.copying import local_disks
from host.domains import Domains
from host.folder import LocalGroup
from host.journal import Journal
from host.local_disk_jobs import AgentJobs, Jobs, OwnJobs
from host.local_disk_leases import Leases
from host.local_disk_notes import FOLDER, Notes
from host.managed_use import Attached
from host.this_host import ThisHost, mounts
from protocol.errors import BadParameter
from storage.local_disks import LocalDisks

PRODUCT_UUID = Path("/sys/class/dmi/id/product_uuid")
MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True)
class Here:
    """allowed: what a client may name as a source; None: whoever asks may read what we may."""

    config: Config
    hardware_id: str
    group: LocalGroup
    disks: LocalDisks
    leases: Leases
    domains: Domains
    jobs: Jobs
    allowed: Allowed | None = None

    @classmethod
    def made(
        cls,
        config: Config,
        hardware_id: str,
        domains: Domains,
        jobs: Jobs,
        allowed: Allowed | None = None,
    ) -> "Here":
        """Raises BadParameter (1000): a name in the configuration cannot be one."""
        group = group_of(config)
        leases = Leases(
            own_domain.mount(config.state),
            domains,
            config.storage.store,
            config.localdisk.domain,
            hardware_id,
            Notes(config.state / FOLDER, hardware_id),
            remember=isinstance(jobs, AgentJobs),
        )
        disks = local_disks(group)
        return cls(config, hardware_id, group, disks, leases, domains, jobs, allowed)


def in_agent(host: ThisHost) -> Here:
    """For the verbs of the agent. Raises as Here.made."""
    config = host.config
    jobs = AgentJobs(host.agent, host.journal)
    allowed = sources_allowed(config, host.managed.attached)
    return Here.made(config, host.hardware_id, host.domains, jobs, allowed)


async def in_foreground(config: Config, hardware_id: str | None = None) -> Here:
    """For a hook or command that finds no agent, with its configuration.

    hardware_id: of this host, where the configuration names none; None: that of the machine.
    Raises BadParameter (1000), OSError: the state folder cannot be used.
    """
    named = config.identity.hardware_id or hardware_id
    if named is None:
        named = await local.run(machine_id)
    domains = await Domains.opened(config.state, mounts(config))
    journal = await trio.to_thread.run_sync(Journal, config.journal)
    return Here.made(config, named, domains, OwnJobs(journal))


def group_of(config: Config) -> LocalGroup:
    wanted = config.localdisk
    return LocalGroup(
        volume_group=wanted.volume_group,
        thin_pool=wanted.thin_pool,
        devices=wanted.devices,
        helper=wanted.helper,
        dev=wanted.dev,
    )


def sources_allowed(config: Config, attached: Attached) -> Allowed:
    """What the copy verb allows, and the disks of VMs."""
    rules = config.endpoints
    directories = (*rules.directories, *config.storage.directories, *config.localdisk.sources)
    return Allowed(msgspec.structs.replace(rules, directories=directories), attached)


def machine_id() -> str:
    """The hardware id of this machine, as `leasehold` finds it. Raises BadParameter. Blocks."""
    product = _uuid(PRODUCT_UUID)
    if product is not None and len(set(product.bytes)) > 1:  # some boards have one without meaning
        return str(product)
    machine = _uuid(MACHINE_ID)
    if machine is None:
        raise BadParameter("identity.hardware_id", "this machine has none: write one down")
    # A machine-id is confidential: machine-id(5).
    digest = hashlib.sha256(b"leasehold hardware id\0" + machine.bytes).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _uuid(path: Path) -> uuid.UUID | None:
    try:
        return uuid.UUID(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None
