"""What can be configured of the agent, with the defaults; host/config_file.py reads it."""

import os
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from host.wire.call import Role
from protocol.settings import (
    Address,
    Folder,
    IscsiName,
    Log,
    MaybeFolder,
    Name,
    Rate,
    Seconds,
    Section,
    Uuid,
    about,
    sections,
)

StoreKind: TypeAlias = Literal["auto", "embedded", "sanlock"]
Scheme: TypeAlias = Literal["path", "nbd+unix", "nbd", "iscsi", "rbd"]
# LVM's rule for names, which is checked where it is used.
VolumeGroup: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Listen(Section, frozen=True):
    """Where clients come in."""

    socket: Annotated[
        MaybeFolder,
        about('Unix socket of local tools; "": none. Root and the agent\'s user may do all.'),
    ] = "/run/leasehold/agent.socket"
    monitor_group: Annotated[
        str | None, about("The group whose members may look over the unix socket.")
    ] = None
    tls: Annotated[
        tuple[Address, ...],
        about('Addresses with TLS, certificates on both sides; "*:54321" is the usual one.'),
    ] = ()
    plain: Annotated[
        tuple[Address, ...],
        about("Loopback addresses without TLS: every process of this host may look there."),
    ] = ()
    metrics: Annotated[
        Address | None, about("Address of the metrics for Prometheus and of the health check.")
    ] = None


class CertificateFiles(Section, frozen=True):
    """Files in PEM format; all three are needed for TLS."""

    ca: Annotated[Folder | None, about("The authorities whose clients are let in.")] = None
    certificate: Annotated[Folder | None, about("The certificate of this host.")] = None
    key: Annotated[Folder | None, about("Its private key.")] = None
    names: Annotated[
        dict[str, Role],
        about("Roles of certificates that name none of ours, by common name: engine or monitor."),
    ] = msgspec.field(default_factory=dict)


class Folders(Section, frozen=True):
    """Where the agent keeps things."""

    state: Annotated[Folder, about("What outlives a restart of the host.")] = "/var/lib/leasehold"
    jobs: Annotated[
        Folder | None, about("The journal of jobs; default: `jobs` in the state folder.")
    ] = None


class Jobs(Section, frozen=True):
    """How copies share this host."""

    concurrency: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=1000)], about("Copies that run at once.")
    ] = 2
    rate: Annotated[
        Rate | None, about('Bytes per second of all copies together, such as "200M".')
    ] = None
    autodelete: Annotated[
        float, about("Seconds after which a job that has ended is forgotten; negative: never.")
    ] = 3600.0
    stall_time: Annotated[
        Annotated[float, msgspec.Meta(gt=0)],
        about("Seconds without movement after which a copy is given up."),
    ] = 300.0


class Endpoints(Section, frozen=True):
    """Which disks outside of storage domains clients may name."""

    schemes: Annotated[
        tuple[Scheme, ...], about("Kinds of url: path, nbd+unix, nbd, iscsi, rbd.")
    ] = ("path", "nbd+unix", "nbd", "iscsi", "rbd")
    directories: Annotated[
        tuple[Folder, ...],
        about("Where files, and sockets of NBD servers, may lie, at any depth below."),
    ] = ()
    devices: Annotated[
        tuple[Folder, ...], about("Folders with the block devices that may be named.")
    ] = ("/dev/mapper", "/run/leasehold/managedvolumes")
    ceph: Annotated[tuple[Folder, ...], about("Where conf and keyring of an rbd url may lie.")] = (
        "/etc/ceph",
    )
    backing: Annotated[
        tuple[Folder, ...],
        about("Folders whose files a source image may name as its backing or data file."),
    ] = ()


class Storage(Section, frozen=True):
    """Storage domains of this host."""

    mounts: Annotated[
        tuple[Folder, ...], about("Folders whose storage domains are opened at the start.")
    ] = ()
    directories: Annotated[
        tuple[Folder, ...],
        about("Folders in and below which clients may create and activate storage domains."),
    ] = ("/rhev/data-center/mnt", "/srv/leasehold")
    store: Annotated[
        StoreKind, about("Who keeps the leases: auto, embedded (this host alone) or sanlock.")
    ] = "auto"
    require_watchdog: Annotated[
        bool, about("Join only with a sanlock daemon that resets a host which loses its storage.")
    ] = True


class Managed(Section, frozen=True):
    """Volumes of managed block storage."""

    helpers: Annotated[
        tuple[Folder, ...],
        about("Where `managedvolume-helper-ADAPTER` of storage vendors is looked for, in order."),
    ] = ("/usr/libexec/leasehold", "/usr/libexec/vdsm")
    run: Annotated[Folder, about("The folder with a link to each attached device.")] = (
        "/run/leasehold/managedvolumes"
    )
    helper_time: Annotated[
        Annotated[float, msgspec.Meta(gt=0)],
        about("Seconds after which a helper program that has not ended is killed."),
    ] = 120.0
    device_time: Annotated[
        Annotated[float, msgspec.Meta(gt=0)],
        about("Seconds in which an attached device must appear."),
    ] = 30.0
    os_brick: Annotated[
        Folder, about("The Python of the environment in which os-brick is installed, if it is.")
    ] = "/usr/bin/python3"


class LocalDisk(Section, frozen=True):
    """Copies of disks on storage of this host, for the VMs that it runs."""

    volume_group: Annotated[
        VolumeGroup, about("The volume group in which they are made; nothing else is touched.")
    ] = "ovirt-local"
    thin_pool: Annotated[VolumeGroup, about("The thin pool of the backend lvmthin.")] = "pool0"
    devices: Annotated[
        tuple[Folder, ...],
        about("The devices that the volume group lies on; LVM looks at no others. Empty: at all."),
    ] = ()
    helper: Annotated[
        tuple[str, ...],
        about('Without root: "sudo", "-n", "/usr/local/bin/leasehold-lvm-helper"; empty: none.'),
    ] = ()
    dev: Annotated[Folder, about("The folder of devices; another one for tests.")] = "/dev"
    domain: Annotated[
        Uuid | None,
        about("The storage domain that keeps the leases of the copies; default: one of our own."),
    ] = None
    sources: Annotated[
        tuple[Folder, ...],
        about("Where disks may lie that are copied, beside the directories of [endpoints]."),
    ] = ("/rhev/data-center",)
    delete_on_stop: Annotated[
        bool, about("Remove the local disks of a VM when it stops, with what it has written.")
    ] = True
    keep: Annotated[
        Seconds, about('Time in which a disk that was just prepared is not removed, as "10m".')
    ] = Seconds(600)
    gc: Annotated[
        Literal["log", "remove", "off"],
        about("What the agent does at its start with disks not needed: log, remove or off."),
    ] = "log"
    vms: Annotated[
        tuple[str, ...],
        about('Prints the ids of all VMs: "virsh", "-rc", "qemu:///system", "list" ... "--uuid".'),
    ] = ()


class Identity(Section, frozen=True):
    """Who this host is."""

    hardware_id: Annotated[
        Uuid | None,
        about("The UUID that records name this host by; default: that of the hardware."),
    ] = None
    name: Annotated[
        Name | None,
        about("The name that storage knows this host by, one for each; default: its host name."),
    ] = None
    initiator: Annotated[
        IscsiName | None,
        about("Its iSCSI name, where QEMU connects; default: open-iscsi's, else made of its UUID."),
    ] = None


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be configured."""

    listen: Listen = Listen()
    certificates: CertificateFiles = CertificateFiles()
    folders: Folders = Folders()
    jobs: Jobs = Jobs()
    endpoints: Endpoints = Endpoints()
    storage: Storage = Storage()
    managed: Managed = Managed()
    localdisk: LocalDisk = LocalDisk()
    identity: Identity = Identity()
    log: Log = Log()

    def __post_init__(self) -> None:
        files = self.certificates
        if self.listen.tls and None in (files.ca, files.certificate, files.key):
            raise ValueError("listen.tls needs the ca, certificate and key of [certificates]")

    @property
    def state(self) -> Path:
        """The folder of what outlives a restart of the host."""
        return Path(self.folders.state)

    @property
    def journal(self) -> Path:
        """The folder of the jobs."""
        return Path(self.folders.jobs or os.path.join(self.folders.state, "jobs"))


SECTIONS = sections(Config)
