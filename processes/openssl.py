"""openssl: makes keys and certificates. Source: openssl-req(1), openssl-x509(1), x509v3_config(5).

Keys go to files that only their owner can read, and are never part of a command.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path

from processes.tool import Limits, run

TIME = Limits(seconds=30)
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
CA_EXTENSIONS = """\
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
EXTENSIONS = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
extendedKeyUsage = {purpose}
"""
REQUEST = "[req]\ndistinguished_name = subject\nprompt = no\n{more}\n[subject]\n{subject}\n"


def _config(subject: Sequence[tuple[str, str]], more: str = "") -> str:
    names = "\n".join(f"{key} = {value}" for key, value in subject)
    return REQUEST.format(subject=names, more=more)


async def make_authority(
    folder: Path, *, subject: Sequence[tuple[str, str]], days: int, key: Path, certificate: Path
) -> None:
    """Make the key and the certificate of an authority. folder: for what is needed on the way.

    subject: pairs such as ("CN", "example"); the caller has made sure that they are plain names.
    Raises ToolMissing, ToolFailed, ToolStalled.
    """
    config = folder / "authority.cnf"
    config.write_text(_config(subject, "x509_extensions = made") + f"[made]\n{CA_EXTENSIONS}")
    argv = ["openssl", "req", "-x509", "-new", *NEW_KEY, "-sha256", "-days", str(days)]
    argv += ["-set_serial", _serial(), "-config", str(config)]
    await run([*argv, "-keyout", str(key), "-out", str(certificate)], limits=TIME)


async def make_certificate(
    folder: Path,
    *,
    subject: Sequence[tuple[str, str]],
    names: Sequence[str],
    purpose: str,
    days: int,
    authority: tuple[Path, Path],
    key: Path,
    certificate: Path,
) -> None:
    """Make a key, and a certificate for it that the authority has signed.

    names: such as `DNS:host1` and `IP:10.0.0.1`. purpose: clientAuth or serverAuth. authority: its
    certificate and its key. Raises ToolMissing, ToolFailed, ToolStalled.
    """
    config, extensions = folder / "request.cnf", folder / "extensions.cnf"
    request = folder / "request.pem"
    config.write_text(_config(subject))
    more = f"subjectAltName = {', '.join(names)}\n" if names else ""
    extensions.write_text(EXTENSIONS.format(purpose=purpose) + more)
    argv = ["openssl", "req", "-new", *NEW_KEY, "-config", str(config)]
    await run([*argv, "-keyout", str(key), "-out", str(request)], limits=TIME)
    signer, signer_key = authority
    argv = ["openssl", "x509", "-req", "-sha256", "-days", str(days), "-in", str(request)]
    argv += ["-CA", str(signer), "-CAkey", str(signer_key), "-set_serial", _serial()]
    await run([*argv, "-extfile", str(extensions), "-out", str(certificate)], limits=TIME)


def _serial() -> str:
    """Random, so that no file has to count: 127 bits, and never negative."""
    return f"0x{secrets.randbits(127) | 1:x}"
