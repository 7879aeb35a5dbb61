"""A small certificate authority for the hosts, engines and monitors of one site.

    FOLDER/ca/    ca.pem, key.pem             of the authority; its key stays where it is
    FOLDER/NAME/  ca.pem, cert.pem, key.pem   all that NAME needs: copy this folder there

A folder appears as a whole or not at all. One that is replaced is kept beside it, as NAME.old-N.
The role stands in the certificate (OU); host/wire/tls.py reads it.
"""

import ipaddress
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from processes import openssl
from processes.atomic_file import sync_folder
from protocol.errors import BadParameter

CertificateRole: TypeAlias = Literal["engine", "monitor", "host"]
# What a certificate is for: that of a host is of no use to a client, and the other way round.
PURPOSES: dict[CertificateRole, str] = {
    "engine": "clientAuth",
    "monitor": "clientAuth",
    "host": "serverAuth",
}
AUTHORITY = "ca"
DAYS = 365
AUTHORITY_DAYS = 3650
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_HOST = re.compile(r"(?!.{254})[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*\Z")


@dataclass(frozen=True)
class Issued:
    """ca, certificate, key: files in PEM format; the key is of mode 0600."""

    folder: str
    ca: str
    certificate: str
    key: str


async def init(
    folder: Path, *, name: str = "leasehold", days: int = AUTHORITY_DAYS, replace: bool = False
) -> Issued:
    """Make the authority. Certificates of one that is replaced are worth nothing any more.

    Raises BadParameter: a name that is none; there is one already, and `replace` was not said;
    a folder that cannot be used. And ToolMissing, ToolFailed.
    """
    _check(name, days)
    async with _new(folder, AUTHORITY, replace=replace) as (work, made):
        subject = [("O", "leasehold"), ("CN", name)]
        key, certificate = made / "key.pem", made / "ca.pem"
        await openssl.make_authority(
            work, subject=subject, days=days, key=key, certificate=certificate
        )
    place = folder / AUTHORITY
    return Issued(str(place), str(place / "ca.pem"), str(place / "ca.pem"), str(place / "key.pem"))


async def issue(
    folder: Path,
    name: str,
    *,
    role: CertificateRole,
    days: int = DAYS,
    names: Sequence[str] = (),
    replace: bool = False,
) -> Issued:
    """Make a key and a certificate for `name`.

    names: host names and addresses by which clients reach a host; without any, `name` is the only
    one. Raises as `init` does, and BadParameter when there is no authority.
    """
    _check(name, days)
    if role not in PURPOSES:
        raise BadParameter("role", f"{role} is none of {', '.join(PURPOSES)}")
    alternatives = [_alternative(one) for one in names or ([name] if role == "host" else [])]
    authority = folder / AUTHORITY / "ca.pem", folder / AUTHORITY / "key.pem"
    if name == AUTHORITY or not all(file.is_file() for file in authority):
        raise BadParameter("name" if name == AUTHORITY else "folder", _hint(folder, name))
    async with _new(folder, name, replace=replace) as (work, made):
        shutil.copyfile(authority[0], made / "ca.pem")
        await openssl.make_certificate(
            work,
            subject=[("O", "leasehold"), ("OU", role), ("CN", name)],
            names=alternatives,
            purpose=PURPOSES[role],
            days=days,
            authority=authority,
            key=made / "key.pem",
            certificate=made / "cert.pem",
        )
    place = folder / name
    files = (str(place / file) for file in ("ca.pem", "cert.pem", "key.pem"))
    return Issued(str(place), *files)


def _hint(folder: Path, name: str) -> str:
    if name == AUTHORITY:
        return f"{AUTHORITY} is the name of the authority itself"
    return f"no authority in {folder}: `leasehold pki init` makes one"


def _check(name: str, days: int) -> None:
    if not _NAME.match(name):
        raise BadParameter("name", f"{name!r}: letters, digits, dots, dashes; at most 64")
    if not 1 <= days <= 36500:
        raise BadParameter("days", f"{days} is not from 1 to 36500")


def _alternative(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        pass
    if not _HOST.match(name):
        raise BadParameter("names", f"{name!r} is neither a host name nor an address")
    return f"DNS:{name}"


@asynccontextmanager
async def _new(folder: Path, name: str, *, replace: bool) -> AsyncGenerator[tuple[Path, Path]]:
    """A place to work in, and in it a folder to fill, which becomes FOLDER/NAME after the body."""
    place = folder / name
    if place.exists() and not replace:
        raise BadParameter("name", f"{place} is there already; --replace makes it anew")
    work = _workplace(folder)
    try:
        made = work / name
        made.mkdir(mode=0o700)
        yield work, made
        _to_disk(made)
        _put(made, place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _workplace(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=folder, prefix=".new-"))  # mode 0700
    except OSError as e:
        raise BadParameter("folder", str(e)) from None


def _to_disk(made: Path) -> None:
    for file in made.iterdir():
        file.chmod(0o600 if file.name == "key.pem" else 0o644)
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_folder(made)


def _put(made: Path, place: Path) -> None:
    """Rename it into place; a folder that is there is renamed away first, and kept."""
    try:
        if place.exists():
            old = (place.with_name(f"{place.name}.old-{n}") for n in itertools.count(1))
            place.rename(next(one for one in old if not one.exists()))
        made.rename(place)  # another one that was just made here is not empty: an error
    except OSError as e:
        raise BadParameter("name", str(e)) from None
    sync_folder(place.parent)
