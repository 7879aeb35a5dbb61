"""Errors: fields are facts, the text is derived from them, the code is the contract.

Codes below 4000 are those that oVirt clients already know; 4000 to 4999 are ours (the engine of
oVirt owns everything above 5000). docs/failures.md lists each with what to do.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(eq=False)
class Error(Exception):
    """Base of every error that a user or a client may see."""

    code: ClassVar[int] = 100
    text: ClassVar[str] = "internal error"

    def __str__(self) -> str:
        return self.text.format(**asdict(self)).removesuffix(": ")  # of a detail that is empty

    def to_rpc(self) -> dict[str, Any]:
        """The error object of a reply: code, kind (class name), message, data (the facts)."""
        return {
            "code": self.code,
            "kind": type(self).__name__,
            "message": str(self),
            "data": asdict(self),
        }


def to_rpc(error: BaseException) -> dict[str, Any]:
    """Like Error.to_rpc for any exception: one that is not ours has code 100 and its own text."""
    if isinstance(error, Error):
        return error.to_rpc()
    text = str(error) or type(error).__name__
    return {"code": Error.code, "kind": type(error).__name__, "message": text, "data": {}}


# --- what the caller sent ---------------------------------------------------------------------


@dataclass(eq=False)
class BadParameter(Error):
    """A parameter is missing, malformed or out of range; nothing was done."""

    code: ClassVar[int] = 1000
    text: ClassVar[str] = "bad parameter {name}: {reason}"
    name: str
    reason: str


@dataclass(eq=False)
class UnsupportedOperation(Error):
    """The operation does not fit the thing it was asked of."""

    code: ClassVar[int] = 2009
    text: ClassVar[str] = "unsupported operation: {reason}"
    reason: str


# --- jobs -------------------------------------------------------------------------------------


@dataclass(eq=False)
class NoSuchJob(Error):
    code: ClassVar[int] = 66
    text: ClassVar[str] = "no such job: {job_id}"
    job_id: str


@dataclass(eq=False)
class JobNotDone(Error):
    """Only a job that has ended can be deleted."""

    code: ClassVar[int] = 68
    text: ClassVar[str] = "job {job_id} is still {status}: abort it or wait for its end"
    job_id: str
    status: str


@dataclass(eq=False)
class JobExists(Error):
    code: ClassVar[int] = 69
    text: ClassVar[str] = "job {job_id} exists already: use a new job id"
    job_id: str


@dataclass(eq=False)
class JobNotActive(Error):
    """An abort came after the end."""

    code: ClassVar[int] = 84
    text: ClassVar[str] = "job {job_id} is not active: it is {status}"
    job_id: str
    status: str


@dataclass(eq=False)
class ActionStopped(Error):
    """The job was aborted."""

    code: ClassVar[int] = 443
    text: ClassVar[str] = "the action was stopped"


@dataclass(eq=False)
class UnknownTask(Error):
    """There is no such task, or it was forgotten: only the last ones are kept."""

    code: ClassVar[int] = 401
    text: ClassVar[str] = "no such task: {task_id}"
    task_id: str


@dataclass(eq=False)
class NotDrained(Error):
    """Jobs still run when the time to wait for them is over. No new one is started."""

    code: ClassVar[int] = 4123
    text: ClassVar[str] = "{running} jobs still run after {timeout} s; no new one is started"
    running: int
    timeout: float


# --- leases -----------------------------------------------------------------------------------


@dataclass(eq=False)
class AcquireLockFailure(Error):
    """Somebody else holds the lease or lock; nothing was changed."""

    code: ClassVar[int] = 651
    text: ClassVar[str] = "cannot acquire {lock}: {reason}"
    lock: str
    reason: str


@dataclass(eq=False)
class ReleaseLockFailure(Error):
    code: ClassVar[int] = 660
    text: ClassVar[str] = "cannot release {lock}: {reason}"
    lock: str
    reason: str


@dataclass(eq=False)
class AcquireHostIdFailure(Error):
    """The host could not join the lockspace of a domain, or leave it; the reason says the way out.

    The same code as in oVirt.
    """

    code: ClassVar[int] = 661
    text: ClassVar[str] = "cannot {verb} the lockspace of domain {sd_id}: {reason}"
    sd_id: str
    verb: str
    reason: str


@dataclass(eq=False)
class SanlockLVBError(Error):
    """The value block of a lease cannot be read, written, or made sense of."""

    code: ClassVar[int] = 703
    text: ClassVar[str] = "lease value block: {reason}"
    reason: str


@dataclass(eq=False)
class GenerationMismatch(Error):
    """The caller acted on an old view of the job: refresh, do not retry."""

    code: ClassVar[int] = 911
    text: ClassVar[str] = "expected generation {expected}, found {found}"
    expected: int
    found: Any


@dataclass(eq=False)
class JobStatusMismatch(Error):
    """The job has ended or was fenced: a job id is used once, retry with a new one."""

    code: ClassVar[int] = 912
    text: ClassVar[str] = "expected job status {expected}, found {found}"
    expected: str
    found: Any


@dataclass(eq=False)
class NoSuchLease(Error):
    code: ClassVar[int] = 936
    text: ClassVar[str] = "no such lease: {lease_id}"
    lease_id: str


@dataclass(eq=False)
class LeaseLost(Error):
    """The lease is no longer ours; nothing was written after that was seen."""

    code: ClassVar[int] = 4001
    text: ClassVar[str] = "lease {lease_id} lost: {reason}"
    lease_id: str
    reason: str


@dataclass(eq=False)
class LeaseExists(Error):
    code: ClassVar[int] = 4002
    text: ClassVar[str] = "lease {lease_id} exists: {reason}"
    lease_id: str
    reason: str


@dataclass(eq=False)
class NoSpace(Error):
    """Every slot of the lease volume is used."""

    code: ClassVar[int] = 4003
    text: ClassVar[str] = "no space for lease {lease_id}: all {slots} slots are used; delete leases"
    lease_id: str
    slots: int


@dataclass(eq=False)
class LeaseUnstable(Error):
    """The lease kept changing while its status was read: ask again."""

    code: ClassVar[int] = 4004
    text: ClassVar[str] = "lease {lease_id} kept changing while it was read: ask again"
    lease_id: str


@dataclass(eq=False)
class InvalidMetadata(Error):
    """The index of a lease volume cannot be used; the reason names the way out."""

    code: ClassVar[int] = 4005
    text: ClassVar[str] = "lease volume {path}: {reason}"
    path: str
    reason: str


@dataclass(eq=False)
class TruncatedIndex(Error):
    code: ClassVar[int] = 4006
    text: ClassVar[str] = "lease volume {path}: index has {available} of {expected} bytes"
    path: str
    expected: int
    available: int


@dataclass(eq=False)
class InvalidRecord(Error):
    code: ClassVar[int] = 4007
    text: ClassVar[str] = "lease volume index: invalid record ({reason})"
    reason: str


@dataclass(eq=False)
class WrongStore(Error):
    """The lease store does not fit this domain; the reason names the way out."""

    code: ClassVar[int] = 4008
    text: ClassVar[str] = "domain {sd_id}: {reason}"
    sd_id: str
    reason: str


@dataclass(eq=False)
class NotJoined(Error):
    """The sanlock daemon of this host has not joined the lockspace of the domain."""

    code: ClassVar[int] = 4011
    text: ClassVar[str] = (
        "this host has not joined domain {sd_id}: `leasehold host join {sd_id} --host-id N`"
    )
    sd_id: str


@dataclass(eq=False)
class SanlockUnavailable(Error):
    """No sanlock daemon answers here."""

    code: ClassVar[int] = 4012
    text: ClassVar[str] = "no sanlock daemon answers at {run_dir}: {reason}"
    run_dir: str
    reason: str


@dataclass(eq=False)
class InvalidSlot(Error):
    """The index names a slot in which there is no such lease."""

    code: ClassVar[int] = 4009
    text: ClassVar[str] = "lease {lease_id}: its slot is damaged ({reason}); rebuild the leases"
    lease_id: str
    reason: str


# --- storage domains --------------------------------------------------------------------------


@dataclass(eq=False)
class StorageDomainCreationError(Error):
    """The folder of a new domain could not be filled; nothing is left of it."""

    code: ClassVar[int] = 351
    text: ClassVar[str] = "cannot create a storage domain in {path}: {reason}"
    path: str
    reason: str


@dataclass(eq=False)
class StorageDomainDoesNotExist(Error):
    code: ClassVar[int] = 358
    text: ClassVar[str] = "no such storage domain: {sd_id}"
    sd_id: str


@dataclass(eq=False)
class StorageDomainAlreadyExists(Error):
    code: ClassVar[int] = 365
    text: ClassVar[str] = "storage domain {sd_id} exists already"
    sd_id: str


@dataclass(eq=False)
class MetaDataSealIsBroken(Error):
    """The checksum of a domain's metadata does not fit its text."""

    code: ClassVar[int] = 752
    text: ClassVar[str] = "domain metadata: checksum {found} does not fit, computed {computed}"
    found: str
    computed: str


@dataclass(eq=False)
class InvalidDomain(Error):
    """The folder is not a storage domain that we can use."""

    code: ClassVar[int] = 4010
    text: ClassVar[str] = "{path} is not a usable storage domain: {reason}"
    path: str
    reason: str


# --- volumes ----------------------------------------------------------------------------------


@dataclass(eq=False)
class VolumeDoesNotExist(Error):
    code: ClassVar[int] = 201
    text: ClassVar[str] = "no such volume: {vol_id}"
    vol_id: str


@dataclass(eq=False)
class ImageDoesNotExistInSD(Error):
    """The storage domain has no such image, which is a folder of volumes."""

    code: ClassVar[int] = 254
    text: ClassVar[str] = "no image {img_id} in storage domain {sd_id}"
    img_id: str
    sd_id: str


@dataclass(eq=False)
class InvalidVolumeMetadata(Error):
    """The metadata of a volume cannot be made sense of; clients know this as InvalidMetadata."""

    code: ClassVar[int] = 751
    text: ClassVar[str] = "metadata of volume {volume}: {reason}"
    volume: str
    reason: str


@dataclass(eq=False)
class MetadataOverflowError(Error):
    """The metadata of a volume would be too long; sizes in bytes. Nothing was written."""

    code: ClassVar[int] = 756
    text: ClassVar[str] = "metadata of {size} bytes, at most {limit} fit: shorten the description"
    size: int
    limit: int


@dataclass(eq=False)
class VolumeExists(Error):
    code: ClassVar[int] = 4020
    text: ClassVar[str] = "volume {vol_id} exists already: {reason}"
    vol_id: str
    reason: str


@dataclass(eq=False)
class VolumeCreationError(Error):
    """A new volume could not be made; nothing is left of it."""

    code: ClassVar[int] = 4021
    text: ClassVar[str] = "cannot create volume {vol_id}: {reason}"
    vol_id: str
    reason: str


@dataclass(eq=False)
class IllegalVolume(Error):
    """The content of the volume is not to be used: a copy to it did not succeed."""

    code: ClassVar[int] = 4022
    text: ClassVar[str] = "volume {vol_id} is {legality}, not LEGAL: its content is not to be used"
    vol_id: str
    legality: str


@dataclass(eq=False)
class BrokenVolumeChain(Error):
    """The parents of a volume do not lead to a base."""

    code: ClassVar[int] = 4023
    text: ClassVar[str] = "chain of volume {vol_id} is broken: {reason}"
    vol_id: str
    reason: str


@dataclass(eq=False)
class VolumeHasChild(Error):
    """A volume below another one is written by nobody and gets no second child."""

    code: ClassVar[int] = 4024
    text: ClassVar[str] = "volume {vol_id} is the parent of {child}: use a leaf"
    vol_id: str
    child: str


# --- images and targets -----------------------------------------------------------------------


@dataclass(eq=False)
class ImageMissing(Error):
    """A named source or target does not exist; nothing is created in its place."""

    code: ClassVar[int] = 4101
    text: ClassVar[str] = "{image} does not exist"
    image: str


@dataclass(eq=False)
class ImageRefused(Error):
    """The image is hostile, damaged, or of a kind that is not copied."""

    code: ClassVar[int] = 4102
    text: ClassVar[str] = "{image} refused: {reason}"
    image: str
    reason: str


@dataclass(eq=False)
class WrongFormat(Error):
    code: ClassVar[int] = 4103
    text: ClassVar[str] = "{image} is {found}, not {expected}"
    image: str
    expected: str
    found: str


@dataclass(eq=False)
class TooSmall(Error):
    """The target cannot hold the source; sizes in bytes."""

    code: ClassVar[int] = 4104
    text: ClassVar[str] = "{image} is too small: {available} bytes, {needed} needed"
    image: str
    needed: int
    available: int


@dataclass(eq=False)
class ReadOnly(Error):
    code: ClassVar[int] = 4105
    text: ClassVar[str] = "{image} cannot be written: {reason}"
    image: str
    reason: str


@dataclass(eq=False)
class SameImage(Error):
    code: ClassVar[int] = 4106
    text: ClassVar[str] = "source and target are one image: {image}"
    image: str


@dataclass(eq=False)
class CannotConnect(Error):
    """A server that the source or target lives on did not answer, or went away."""

    code: ClassVar[int] = 4107
    text: ClassVar[str] = "cannot connect to {image}: {reason}"
    image: str
    reason: str


# --- tools ------------------------------------------------------------------------------------


@dataclass(eq=False)
class ToolMissing(Error):
    code: ClassVar[int] = 4110
    text: ClassVar[str] = "{tool} is not installed: install the package {package}"
    tool: str
    package: str


@dataclass(eq=False)
class ToolFailed(Error):
    """A tool ended with an error that has no class of its own; `detail` is what it said."""

    code: ClassVar[int] = 4111
    text: ClassVar[str] = "{tool} failed with status {status}: {detail}"
    tool: str
    status: int
    detail: str


@dataclass(eq=False)
class NoSpaceLeft(ToolFailed):
    """ENOSPC or EDQUOT on the target."""

    code: ClassVar[int] = 4112
    text: ClassVar[str] = "{tool}: no space left on the target: {detail}"


@dataclass(eq=False)
class InputOutputError(ToolFailed):
    """EIO on the source or target."""

    code: ClassVar[int] = 4113
    text: ClassVar[str] = "{tool}: input/output error: {detail}"


@dataclass(eq=False)
class ToolKilled(ToolFailed):
    """The tool was ended by a signal that we did not send; status is minus the signal."""

    code: ClassVar[int] = 4114
    text: ClassVar[str] = "{tool} was killed by signal {signal}: {detail}"
    signal: int


@dataclass(eq=False)
class ToolStalled(Error):
    """The tool gave no result in its time, or moved nothing for so long; seconds."""

    code: ClassVar[int] = 4115
    text: ClassVar[str] = "{tool} stood still: nothing came for {seconds} s"
    tool: str
    seconds: float


@dataclass(eq=False)
class ConnectionLost(ToolFailed):
    """The server of the source or target went away in the middle."""

    code: ClassVar[int] = 4116
    text: ClassVar[str] = "{tool}: connection lost: {detail}"


@dataclass(eq=False)
class ImageInUse(ToolFailed):
    """Another process has the image open, a running virtual machine perhaps."""

    code: ClassVar[int] = 4108
    text: ClassVar[str] = "{tool}: the image is in use by another process: {detail}"


@dataclass(eq=False)
class FlushFailed(Error):
    """The target did not confirm that the data is on stable storage: the copy is not done."""

    code: ClassVar[int] = 4117
    text: ClassVar[str] = "{image}: flush failed, the copy is not on disk: {reason}"
    image: str
    reason: str


@dataclass(eq=False)
class VerifyFailed(Error):
    """Source and target differ after the copy."""

    code: ClassVar[int] = 4119
    text: ClassVar[str] = "{image} does not hold what {source} holds: the copy is not to be used"
    image: str
    source: str


@dataclass(eq=False)
class SourceShrank(Error):
    """A file of the source got shorter while it was read; sizes in bytes."""

    code: ClassVar[int] = 4120
    text: ClassVar[str] = "{image} shrank from {before} to {after} bytes while it was copied"
    image: str
    before: int
    after: int


@dataclass(eq=False)
class BadOutput(Error):
    """A tool printed something that cannot be read, or too much of it."""

    code: ClassVar[int] = 4118
    text: ClassVar[str] = "{tool} printed something unexpected: {reason}"
    tool: str
    reason: str


# --- workers of the agent ------------------------------------------------------------------------


@dataclass(eq=False)
class WorkerDied(Error):
    """The worker process of a job ended without telling how the job ended.

    said: what its lease or volume says.
    """

    code: ClassVar[int] = 4121
    text: ClassVar[str] = "the worker of job {job_id} died; {said}"
    job_id: str
    said: str


@dataclass(eq=False)
class WorkerNotStarted(Error):
    """No worker process could be started for a job; nothing was done."""

    code: ClassVar[int] = 4122
    text: ClassVar[str] = "no worker could be started for job {job_id}: {reason}"
    job_id: str
    reason: str


# --- managed volumes ------------------------------------------------------------------------------


@dataclass(eq=False)
class ManagedVolumeHelperFailed(Error):
    """A helper program of the host failed; what it had done before was undone."""

    code: ClassVar[int] = 926
    text: ClassVar[str] = "{helper} {command} failed: {reason}"
    helper: str
    command: str
    reason: str


@dataclass(eq=False)
class ManagedVolumeAlreadyAttached(Error):
    code: ClassVar[int] = 927
    text: ClassVar[str] = "managed volume {vol_id} is attached to this host already"
    vol_id: str


@dataclass(eq=False)
class ManagedVolumeUnsupportedDevice(Error):
    """A device of the kernel came up in a way that it cannot be used safely."""

    code: ClassVar[int] = 928
    text: ClassVar[str] = "managed volume {vol_id}: {reason}"
    vol_id: str
    reason: str


@dataclass(eq=False)
class ManagedVolumeConnectionMismatch(Error):
    """The same id was attached before, with another connection: two volumes, or an old view."""

    code: ClassVar[int] = 929
    text: ClassVar[str] = "managed volume {vol_id} is known to this host by another connection"
    vol_id: str


@dataclass(eq=False)
class AdapterMissing(Error):
    """No program for an adapter; `reason` says where it was looked for."""

    code: ClassVar[int] = 4200
    text: ClassVar[str] = "no program for adapter {adapter}: {reason}"
    adapter: str
    reason: str


@dataclass(eq=False)
class AdapterFailed(Error):
    """An adapter program said that it could not do it, or died; what it did is not known."""

    code: ClassVar[int] = 4201
    text: ClassVar[str] = "adapter {adapter}: {command} failed: {reason}"
    adapter: str
    command: str
    reason: str


@dataclass(eq=False)
class AdapterGarbage(Error):
    """An adapter program succeeded, but its answer cannot be read: what it did is not known."""

    code: ClassVar[int] = 4202
    text: ClassVar[str] = "adapter {adapter}: the answer to {command} cannot be read: {reason}"
    adapter: str
    command: str
    reason: str


@dataclass(eq=False)
class AdapterStalled(Error):
    """An adapter program did not end in its time and was killed: what it did is not known."""

    code: ClassVar[int] = 4203
    text: ClassVar[str] = "adapter {adapter}: {command} did not end in {seconds} s and was killed"
    adapter: str
    command: str
    seconds: float


@dataclass(eq=False)
class NoSuchManagedVolume(Error):
    code: ClassVar[int] = 4204
    text: ClassVar[str] = "no such managed volume: {vol_id}"
    vol_id: str


@dataclass(eq=False)
class NoSuchManagedSnapshot(Error):
    code: ClassVar[int] = 4205
    text: ClassVar[str] = "managed volume {vol_id} has no snapshot {snapshot_id}"
    vol_id: str
    snapshot_id: str


@dataclass(eq=False)
class ManagedVolumeExists(Error):
    code: ClassVar[int] = 4206
    text: ClassVar[str] = "managed volume {vol_id} exists already: {reason}"
    vol_id: str
    reason: str


@dataclass(eq=False)
class ManagedVolumeInUse(Error):
    """What a volume is needed for forbids the operation; `reason` names it. Nothing was done."""

    code: ClassVar[int] = 4207
    text: ClassVar[str] = "managed volume {vol_id} is in use: {reason}"
    vol_id: str
    reason: str


@dataclass(eq=False)
class ManagedStorageFailed(Error):
    """The storage behind an adapter did not do what it was asked; `reason` is what it said."""

    code: ClassVar[int] = 4208
    text: ClassVar[str] = "managed storage: {reason}"
    reason: str


@dataclass(eq=False)
class NoSuchManagedDomain(Error):
    code: ClassVar[int] = 4209
    text: ClassVar[str] = "no such domain of managed block storage: {name}"
    name: str


# --- local disks ----------------------------------------------------------------------------------


@dataclass(eq=False)
class LocalDiskRefused(Error):
    """A logical volume is not what is asked for, and is not ours to replace; nothing was done."""

    code: ClassVar[int] = 4300
    text: ClassVar[str] = "local disk {vol_id}: {reason}"
    vol_id: str
    reason: str


@dataclass(eq=False)
class LocalDiskInUse(Error):
    """A local disk is open, or a copy fills it; nothing was done. job_id: of that copy."""

    code: ClassVar[int] = 4301
    text: ClassVar[str] = "local disk {vol_id} is in use: {reason}"
    vol_id: str
    reason: str
    job_id: str | None = None


@dataclass(eq=False)
class LocalDiskUncertain(Error):
    """It cannot be told whether a copy still fills a local disk, which is kept."""

    code: ClassVar[int] = 4302
    text: ClassVar[str] = "local disk {vol_id}: what became of job {job_id} is unknown: {reason}"
    vol_id: str
    job_id: str
    reason: str


@dataclass(eq=False)
class NoSuchLocalDisk(Error):
    code: ClassVar[int] = 4303
    text: ClassVar[str] = "no such local disk on this host: {vol_id}"
    vol_id: str


@dataclass(eq=False)
class VolumeGroupMissing(Error):
    """LVM of this host does not show the volume group of local disks."""

    code: ClassVar[int] = 4310
    text: ClassVar[str] = (
        "no volume group {volume_group} on this host: make it with "
        "`vgcreate {volume_group} DEVICE`, or name another one in localdisk.volume_group"
    )
    volume_group: str


@dataclass(eq=False)
class ThinPoolMissing(Error):
    """The volume group has no such thin pool."""

    code: ClassVar[int] = 4311
    text: ClassVar[str] = (
        "volume group {volume_group} has no thin pool {pool}: make it with `lvcreate --type "
        "thin-pool --extents 90%FREE --name {pool} {volume_group}`, then "
        "`lvchange --errorwhenfull y {volume_group}/{pool}`"
    )
    volume_group: str
    pool: str


@dataclass(eq=False)
class NoLocalSpace(Error):
    """A local disk would not fit; nothing was made. Bytes. command: makes room, of LVM."""

    code: ClassVar[int] = 4312
    text: ClassVar[str] = (
        "no space for a local disk: {available} bytes are free in {place}, {needed} are needed; "
        "make room with `{command}`, or remove local disks: `leasehold localdisk list`"
    )
    place: str
    needed: int
    available: int
    command: str


@dataclass(eq=False)
class ThinPoolUnsafe(Error):
    """A thin pool is set up so that a copy to it cannot be trusted, or would hang."""

    code: ClassVar[int] = 4313
    text: ClassVar[str] = "thin pool {pool}: {reason}; correct it with `{command}`"
    pool: str
    reason: str
    command: str


@dataclass(eq=False)
class LocalDiskChanged(Error):
    """The tags of a local disk are not those that were expected: another start was faster."""

    code: ClassVar[int] = 4314
    text: ClassVar[str] = "local disk {vol_id} is not as expected: {reason}"
    vol_id: str
    reason: str


@dataclass(eq=False)
class NoSuchDisk(Error):
    """A domain in libvirt's XML has no such disk, or not one that can become local."""

    code: ClassVar[int] = 4330
    text: ClassVar[str] = "the domain has no disk {name!r:.80}; it has: {known:.400}"
    name: str
    known: str


# --- the engine -----------------------------------------------------------------------------------


@dataclass(eq=False)
class NoSuchObject(Error):
    """The engine has nothing of that kind and name. kind: "disk", "host", ...; name: or its id."""

    code: ClassVar[int] = 4400
    text: ClassVar[str] = "no such {kind}: {name!r:.200}"
    kind: str
    name: str


@dataclass(eq=False)
class NameTaken(Error):
    """Another one of that kind has the name, or the id."""

    code: ClassVar[int] = 4401
    text: ClassVar[str] = "there is a {kind} {name!r:.200} already"
    kind: str
    name: str


@dataclass(eq=False)
class DiskLocked(Error):
    """A command works on the disk. disk: its name and id. command: its id, "" when that is not
    known."""

    code: ClassVar[int] = 4402
    text: ClassVar[str] = "disk {disk} is locked by command {command}"
    disk: str
    command: str


@dataclass(eq=False)
class WrongState(Error):
    """What was asked for does not fit the state; nothing was done. expected: the states that do."""

    code: ClassVar[int] = 4403
    text: ClassVar[str] = "{kind} {name} is {state}, not {expected}"
    kind: str
    name: str
    state: str
    expected: str


@dataclass(eq=False)
class NoHostFits(Error):
    """No host can do it now. reason: of each host."""

    code: ClassVar[int] = 4404
    text: ClassVar[str] = "no host can do this: {reason}"
    reason: str


@dataclass(eq=False)
class NoRoom(Error):
    """A storage domain has not enough space; nothing was made. domain: its name and id. Bytes."""

    code: ClassVar[int] = 4405
    text: ClassVar[str] = "storage domain {domain} has no room: {needed} bytes needed, {free} free"
    domain: str
    needed: int
    free: int


@dataclass(eq=False)
class StillUsed(Error):
    """It cannot be removed as something needs it. by: what, with its name."""

    code: ClassVar[int] = 4406
    text: ClassVar[str] = "{kind} {name} is in use by {by}"
    kind: str
    name: str
    by: str


@dataclass(eq=False)
class DatabaseGone(Error):
    """The database of the engine does not answer, or it cannot write. What it had said is kept."""

    code: ClassVar[int] = 4407
    text: ClassVar[str] = "the database of the engine cannot be used: {reason}"
    reason: str


@dataclass(eq=False)
class EngineBusy(Error):
    """Another engine works with this database. owner: which, as far as it is known."""

    code: ClassVar[int] = 4408
    text: ClassVar[str] = "another engine has this database: {owner}"
    owner: str


@dataclass(eq=False)
class Unauthorized(Error):
    """No token, a wrong one, or one that has expired; or a wrong password."""

    code: ClassVar[int] = 4409
    text: ClassVar[str] = "not logged in: {reason}"
    reason: str


@dataclass(eq=False)
class NotAllowed(Error):
    """The role of the user does not let it do this."""

    code: ClassVar[int] = 4410
    text: ClassVar[str] = "role {role} may not {action}"
    role: str
    action: str


@dataclass(eq=False)
class TooManyRequests(Error):
    """seconds: until it may be asked again."""

    code: ClassVar[int] = 4411
    text: ClassVar[str] = "too many requests: ask again in {seconds:.0f} s"
    seconds: float


@dataclass(eq=False)
class InQuarantine(Error):
    """Nobody knows whether it is still used, so it is kept as it is until a person has looked."""

    code: ClassVar[int] = 4412
    text: ClassVar[str] = "{kind} {name} is in quarantine: `leasehold engine quarantine list`"
    kind: str
    name: str


@dataclass(eq=False)
class NotSupported(Error):
    """The engine does not do this, or not with such a thing; nothing was done."""

    code: ClassVar[int] = 4413
    text: ClassVar[str] = "not supported: {what}"
    what: str


@dataclass(eq=False)
class MayExist(Error):
    """An adapter was asked for something whose id it chooses, and its answer was lost."""

    code: ClassVar[int] = 4414
    text: ClassVar[str] = "{what} may exist: the answer of the adapter, with its id, was lost"
    what: str


@dataclass(eq=False)
class CopyFailed(Error):
    """The copy of a disk failed, and its host could not tell why; `reason` is of the judgement."""

    code: ClassVar[int] = 4440
    text: ClassVar[str] = "copy job {job_id} failed: {reason}"
    job_id: str
    reason: str


@dataclass(eq=False)
class AccessNotCut(Error):
    """Whether a host still reaches a managed volume is not known, so the volume is kept."""

    code: ClassVar[int] = 4441
    text: ClassVar[str] = "the access of host {host} to volume {vol_id} was not ended: {reason}"
    vol_id: str
    host: str
    reason: str
