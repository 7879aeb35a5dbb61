"""What can be configured of the engine, with the defaults; engine/config_file.py reads it."""

from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec

from protocol.settings import Address, Folder, Log, Seconds, Section, about, sections

Number: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
OrNone: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]  # 0: there is no limit
Pauses: TypeAlias = Annotated[
    tuple[Annotated[float, msgspec.Meta(ge=0, le=86400)], ...], msgspec.Meta(min_length=1)
]


class Listen(Section, frozen=True):
    """Where clients of the REST interface come in."""

    tls: Annotated[
        tuple[Address, ...], about('Addresses with TLS; "*:8443" is the usual one.')
    ] = ()
    plain: Annotated[
        tuple[Address, ...],
        about("Loopback addresses without TLS: passwords and tokens are readable on the way."),
    ] = ("127.0.0.1:8080",)
    metrics: Annotated[
        Address | None, about("Address of the metrics for Prometheus and of the health check.")
    ] = None
    connections: Annotated[Number, about("Clients that are connected at once.")] = 1000


class CertificateFiles(Section, frozen=True):
    """Files in PEM format, with which the engine proves to its clients who it is."""

    certificate: Annotated[Folder | None, about("The certificate of the engine.")] = None
    key: Annotated[Folder | None, about("Its private key.")] = None


class Folders(Section, frozen=True):
    """Where the engine keeps things."""

    state: Annotated[
        Folder, about("The database, unless it is elsewhere, and the key of what is secret.")
    ] = "/var/lib/leasehold/engine"


class DatabasePlace(Section, frozen=True):
    """Where everything stands that the engine knows."""

    url: Annotated[
        str | None,
        about(
            "sqlite:////FILE or postgresql://USER@HOST/NAME; default: SQLite in the state folder."
        ),
    ] = None
    key_file: Annotated[
        Folder | None,
        about(
            "The key that secrets in the database are encrypted with; default: `secrets.key` in"
            " the state folder. Without it they are lost."
        ),
    ] = None
    patience: Annotated[Seconds, about("How long a request waits for a database that is gone.")] = (
        Seconds(30)
    )
    keep: Annotated[
        Seconds, about("How long commands that have ended, and the audit log, are kept.")
    ] = Seconds(90 * 86400)
    standby: Annotated[
        bool, about("Wait while another engine has the database, in place of an error.")
    ] = False


class HostCalls(Section, frozen=True):
    """How hosts are reached."""

    ca: Annotated[Folder | None, about("Who signs the certificates of hosts.")] = None
    certificate: Annotated[
        Folder | None, about("The certificate of this engine, with the role engine.")
    ] = None
    key: Annotated[Folder | None, about("Its private key.")] = None
    call_time: Annotated[Seconds, about("Time for the answer of a host to one call.")] = Seconds(30)
    grace: Annotated[
        Seconds, about("How long a host may be silent before it counts as not responding.")
    ] = Seconds(60)
    pauses: Annotated[
        Pauses, about("Seconds between tries to reach a host; the last one goes on.")
    ] = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
    refresh: Annotated[Seconds, about("Time between two looks at what a host can do.")] = Seconds(
        30
    )


class Polling(Section, frozen=True):
    """How jobs are judged; docs/judgement.md says what is counted."""

    pauses: Annotated[
        Pauses, about("Seconds between rounds of questions to a host; the last one goes on.")
    ] = (1.0, 2.0, 4.0, 8.0, 10.0)
    calls: Annotated[Number, about("Failed calls in a row before the lease is asked.")] = 3
    fences: Annotated[Number, about("Fences without an end before a job is unresolved.")] = 10
    held: Annotated[
        Seconds, about("How long a lease may stay held after its host said that the job ended.")
    ] = Seconds(120)
    alarm: Annotated[
        Seconds, about("Silence about a job after which somebody is told to look.")
    ] = Seconds(600)
    nobody: Annotated[
        Seconds, about("How long there may be no host to ask before a job is unresolved.")
    ] = Seconds(3600)


class CommandWork(Section, frozen=True):
    """How commands do and undo what they do."""

    tries: Annotated[
        Number, about("How often an undo or a clean-up is tried before its object is quarantined.")
    ] = 6
    pauses: Annotated[
        Pauses, about("Seconds before each try but the first; the last one goes on.")
    ] = (1.0, 2.0, 5.0, 10.0, 20.0)
    room: Annotated[
        Seconds, about("How long a copy waits for a host and domains that are below their limits.")
    ] = Seconds(3600)
    adapter_time: Annotated[
        Seconds, about("Time after which an adapter is killed that moves no data.")
    ] = Seconds(120)
    adapter_data_time: Annotated[
        Seconds, about("The same for one that may move all data of a volume.")
    ] = Seconds(4 * 3600)


class Limits(Section, frozen=True):
    """What one client of the REST interface may ask for, and how many copies there are at once."""

    body: Annotated[
        Annotated[int, msgspec.Meta(ge=1024, le=1 << 30)], about("Bytes of the body of a request.")
    ] = 1 << 20
    requests: Annotated[
        Number, about("Requests a second of one address, and of one user, in the long run.")
    ] = 500
    burst: Annotated[Number, about("So many of them may come at once.")] = 2000
    login_failures: Annotated[
        Number, about("Failed logins of one address or name in a minute; more are not tried.")
    ] = 10
    token_life: Annotated[Seconds, about("How long a token is good for.")] = Seconds(12 * 3600)
    listeners: Annotated[Number, about("Clients at once that follow events.")] = 100
    copies_per_host: Annotated[
        OrNone,
        about("Copies at once on one host, which never does more than it says; 0: no limit."),
    ] = 0
    copies_per_domain: Annotated[
        OrNone,
        about("Copies at once with an end in one storage domain that has no limit; 0: no limit."),
    ] = 0


class Webhooks(Section, frozen=True):
    """How events are delivered to the urls that asked for them."""

    timeout: Annotated[Seconds, about("Time for one delivery.")] = Seconds(10)
    tries: Annotated[Number, about("How often a delivery is tried.")] = 15
    pause: Annotated[
        Seconds, about("Pause before the second try; each one after that is twice as long.")
    ] = Seconds(5)
    pause_most: Annotated[Seconds, about("Longest pause between two tries.")] = Seconds(3600)
    at_once: Annotated[Number, about("Deliveries at once.")] = 8
    private: Annotated[
        bool, about("Deliver to loopback, link-local and private addresses, too.")
    ] = False
    plain: Annotated[bool, about("Deliver by http:, too, where everybody can read it.")] = False


class Adapters(Section, frozen=True):
    """Programs that manage the volumes of managed block storage."""

    managedblock: Annotated[Folder, about("Where vendors put them; looked at first.")] = (
        "/usr/share/ovirt-engine/managedblock"
    )
    cinderlib: Annotated[Folder, about("Where cinderlib's are; looked at next, then ours.")] = (
        "/usr/share/ovirt-engine/cinderlib"
    )


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be configured."""

    listen: Listen = Listen()
    certificates: CertificateFiles = CertificateFiles()
    folders: Folders = Folders()
    database: DatabasePlace = DatabasePlace()
    hosts: HostCalls = HostCalls()
    polling: Polling = Polling()
    commands: CommandWork = CommandWork()
    limits: Limits = Limits()
    webhooks: Webhooks = Webhooks()
    adapters: Adapters = Adapters()
    log: Log = Log()

    def __post_init__(self) -> None:
        files = self.certificates
        if self.listen.tls and None in (files.certificate, files.key):
            raise ValueError("listen.tls needs the certificate and key of [certificates]")

    @property
    def state(self) -> Path:
        """The folder of what outlives a restart."""
        return Path(self.folders.state)

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.state / 'engine.sqlite'}"

    @property
    def key_file(self) -> Path:
        """Of the key of what is secret in the database."""
        return Path(self.database.key_file or self.state / "secrets.key")


SECTIONS = sections(Config)
