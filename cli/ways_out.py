"""The way out of an error whose own text does not name it."""

from cli.exits import kind_of
from protocol import errors, jsonrpc
from protocol.reported import Reported

WAYS_OUT: dict[type[BaseException], str] = {
    errors.StorageDomainDoesNotExist: "`leasehold domain list` shows the known domains, "
    "`leasehold domain open PATH` remembers those of a mount",
    errors.NoSuchJob: "`leasehold job list` shows those that a host knows, `leasehold job resolve"
    " SD JOB` what the lease of another one tells",
    errors.NoSuchLease: "`leasehold lease list SD` shows those that exist",
    errors.AcquireLockFailure: "it is in use: wait for its owner, or abort that",
    errors.ReleaseLockFailure: "the result is recorded: when its lease is free and says SUCCEEDED, "
    "the copy is complete",
    errors.LeaseLost: "when its lease is free, it says what became of the job: try again unless "
    "that is SUCCEEDED",
    errors.SanlockUnavailable: "start it, then `leasehold host join SD --host-id N`",
    errors.JobStatusMismatch: "a job id is used once: use a new one",
    errors.LeaseExists: "use another id, or look with `leasehold lease status SD LEASE`",
    errors.ImageMissing: "check the name; a device or network volume is never created",
    errors.NoSuchManagedDomain: "`leasehold managed domain list` shows the known ones, `leasehold"
    " managed domain add` adds one",
    errors.LocalDiskInUse: "stop its VM, or wait for the copy; `leasehold localdisk list` shows it",
    errors.CannotConnect: "check that its server runs and can be reached",
    errors.ReadOnly: "check its permissions",
    errors.StorageDomainAlreadyExists: "`leasehold domain open PATH` opens it",
}

# Of what the agent of a host told; for the others those above.
OF_HOST: dict[type[BaseException], str] = {
    errors.StorageDomainDoesNotExist: "that host does not know it: its configuration names the"
    " `mounts` whose domains it knows",
    errors.NoSuchLease: "`leasehold job resolve SD JOB` judges a job",
    errors.LeaseExists: "use another job id",
    jsonrpc.Forbidden: "root and the user of the agent may, and certificates with the role engine",
}


def way_out(error: BaseException) -> str:
    """Empty: the error says it itself, or there is none."""
    kinds = kind_of(error).__mro__
    tables = (OF_HOST, WAYS_OUT) if isinstance(error, Reported) else (WAYS_OUT,)
    return next((table[kind] for table in tables for kind in kinds if kind in table), "")
