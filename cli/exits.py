"""Exit codes: which class of error ends the command with which code.

0 ok, 1 the job failed (and every error without a class here), 2 bad usage or bad input, 3 not
found, 4 aborted or fenced, 5 cannot connect, 6 refused by the present state, 7 unresolved.
"""

from functools import cache

from protocol import errors, jsonrpc
from protocol.record import JobStatus
from protocol.reported import Reported

OK = 0
FAILED = 1
BAD_INPUT = 2
NOT_FOUND = 3
ABORTED = 4
CANNOT_CONNECT = 5
REFUSED = 6
UNRESOLVED = 7

# An error of a class that is not here has the code of the nearest class above it that is.
CODES: dict[type[BaseException], int] = {
    BaseException: FAILED,
    errors.ActionStopped: ABORTED,
    KeyboardInterrupt: ABORTED,
    # bad input; an image is never "refused by the state"
    errors.BadParameter: BAD_INPUT,
    errors.ImageRefused: BAD_INPUT,
    errors.WrongFormat: BAD_INPUT,
    errors.TooSmall: BAD_INPUT,
    errors.ReadOnly: BAD_INPUT,
    errors.SameImage: BAD_INPUT,
    errors.ImageInUse: BAD_INPUT,
    errors.StorageDomainCreationError: BAD_INPUT,
    errors.InvalidDomain: BAD_INPUT,
    errors.MetaDataSealIsBroken: BAD_INPUT,
    errors.InvalidVolumeMetadata: BAD_INPUT,
    errors.MetadataOverflowError: BAD_INPUT,
    errors.VolumeCreationError: BAD_INPUT,
    errors.IllegalVolume: BAD_INPUT,
    errors.AdapterMissing: BAD_INPUT,
    errors.BrokenVolumeChain: BAD_INPUT,
    # not found
    errors.StorageDomainDoesNotExist: NOT_FOUND,
    errors.NoSuchLease: NOT_FOUND,
    errors.NoSuchJob: NOT_FOUND,
    errors.UnknownTask: NOT_FOUND,
    errors.VolumeDoesNotExist: NOT_FOUND,
    errors.ImageDoesNotExistInSD: NOT_FOUND,
    errors.ImageMissing: NOT_FOUND,
    errors.NoSuchManagedDomain: NOT_FOUND,
    errors.NoSuchManagedVolume: NOT_FOUND,
    errors.NoSuchManagedSnapshot: NOT_FOUND,
    errors.NoSuchLocalDisk: NOT_FOUND,
    errors.NoSuchDisk: NOT_FOUND,
    errors.NoSuchObject: NOT_FOUND,
    # cannot connect
    errors.CannotConnect: CANNOT_CONNECT,
    errors.ConnectionLost: CANNOT_CONNECT,
    errors.SanlockUnavailable: CANNOT_CONNECT,
    errors.DatabaseGone: CANNOT_CONNECT,
    # refused by the present state
    errors.UnsupportedOperation: REFUSED,
    errors.JobExists: REFUSED,
    errors.JobNotActive: REFUSED,
    errors.JobNotDone: REFUSED,
    errors.NotDrained: REFUSED,
    errors.AcquireLockFailure: REFUSED,
    errors.AcquireHostIdFailure: REFUSED,
    errors.NotJoined: REFUSED,
    errors.GenerationMismatch: REFUSED,
    errors.JobStatusMismatch: REFUSED,
    errors.LeaseLost: REFUSED,
    errors.LeaseExists: REFUSED,
    errors.VolumeExists: REFUSED,
    errors.VolumeHasChild: REFUSED,
    errors.LeaseUnstable: REFUSED,
    errors.NoSpace: REFUSED,
    errors.WrongStore: REFUSED,
    errors.StorageDomainAlreadyExists: REFUSED,
    errors.SanlockLVBError: REFUSED,
    errors.InvalidMetadata: REFUSED,
    errors.TruncatedIndex: REFUSED,
    errors.InvalidRecord: REFUSED,
    errors.InvalidSlot: REFUSED,
    errors.ManagedVolumeAlreadyAttached: REFUSED,
    errors.ManagedVolumeConnectionMismatch: REFUSED,
    errors.ManagedVolumeExists: REFUSED,
    errors.ManagedVolumeInUse: REFUSED,
    errors.LocalDiskRefused: REFUSED,
    errors.LocalDiskInUse: REFUSED,
    errors.LocalDiskChanged: REFUSED,
    errors.VolumeGroupMissing: REFUSED,
    errors.ThinPoolMissing: REFUSED,
    errors.ThinPoolUnsafe: REFUSED,
    errors.NoLocalSpace: REFUSED,
    errors.NameTaken: REFUSED,
    errors.DiskLocked: REFUSED,
    errors.WrongState: REFUSED,
    errors.NoHostFits: REFUSED,
    errors.NoRoom: REFUSED,
    errors.StillUsed: REFUSED,
    errors.EngineBusy: REFUSED,
    errors.Unauthorized: REFUSED,
    errors.NotAllowed: REFUSED,
    errors.TooManyRequests: REFUSED,
    errors.InQuarantine: REFUSED,
    errors.NotSupported: REFUSED,
    errors.MayExist: REFUSED,
    errors.AccessNotCut: REFUSED,
    jsonrpc.Forbidden: REFUSED,
    # nobody can say
    errors.LocalDiskUncertain: UNRESOLVED,
}


def kind_of(error: BaseException) -> type[BaseException]:
    """The class of an error; of one that another process told, the class that has its code."""
    if isinstance(error, Reported):
        return _by_code().get(error.number, errors.Error)
    return type(error)


@cache
def _by_code() -> dict[int, type[errors.Error]]:
    known: list[type[errors.Error]] = [*_below(errors.Error), jsonrpc.Forbidden]
    return {kind.code: kind for kind in known}


def _below(kind: type[errors.Error]) -> list[type[errors.Error]]:
    """The classes of protocol.errors that are a `kind`."""
    known = [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
    return [one for found in known for one in (found, *_below(found))]


def before_job(error: BaseException) -> int:
    """The exit code for an error of a command, or of a copy whose job has not begun."""
    return next(CODES[kind] for kind in kind_of(error).__mro__ if kind in CODES)


# What a job is refused for before it touches anything: its lease was taken, changed or removed
# while it was about to begin.
REFUSALS = (
    errors.AcquireLockFailure,
    errors.GenerationMismatch,
    errors.JobStatusMismatch,
    errors.NoSuchLease,
    errors.UnsupportedOperation,
)


def after_job(error: Exception | None) -> int:
    """The exit code for a job that failed with `error`.

    One that was refused ends as if it had been refused before; otherwise the job failed, whatever
    it was.
    """
    if error is None:
        return FAILED
    kind = kind_of(error)
    if kind is errors.JobStatusMismatch and _found(error) == JobStatus.FENCED:
        return ABORTED  # somebody ended the job while it was about to begin
    return before_job(error) if issubclass(kind, REFUSALS) else FAILED


def _found(error: Exception) -> object:
    """The status that a JobStatusMismatch found."""
    return errors.to_rpc(error)["data"].get("found")
