"""Runs in the guest: does what the host asks over a port, until it is asked to end.

One JSON object a line. The host sends {"start": N, "argv", "env", "cwd", "stdin": text},
{"signal": S, "of": N} or {"end": true}; it gets {"ready": seconds since the boot}, {"of": N,
"out": text} for what a command printed (stdout and stderr, in their order), and {"of": N,
"status": exit status}.
Only the standard library, and as a script: it is the first Python of a slow machine.
"""

import codecs
import fcntl
import json
import os
import selectors
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path("/dev/guest")
PORTS = ("control", "report")
PORT_TIME = 60.0  # seconds for them to be there
CHUNK = 1 << 15


class Port:
    """The line to the host. What is sent waits in memory while the host does not read: no command
    may be held up by that."""

    def __init__(self, path: Path, selector: selectors.BaseSelector) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._selector = selector
        self._rest = b""
        self._waiting = bytearray()
        selector.register(self.fd, selectors.EVENT_READ)

    def received(self) -> list[dict[str, Any]]:
        """What has come."""
        *lines, self._rest = (self._rest + os.read(self.fd, CHUNK)).split(b"\n")
        return [json.loads(line) for line in lines]

    def send(self, **message: object) -> None:
        self._waiting += json.dumps(message).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """As much as the port takes now."""
        try:
            while self._waiting:
                del self._waiting[: os.write(self.fd, self._waiting[:CHUNK])]
        except BlockingIOError:
            pass
        more = selectors.EVENT_WRITE if self._waiting else 0
        self._selector.modify(self.fd, selectors.EVENT_READ | more)


class Commands:
    """What runs. A command has ended when it was reaped and its output closed."""

    def __init__(self, path: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.port = Port(path, self.selector)
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def serve(self) -> None:
        while True:
            for key, events in self.selector.select():
                if key.fd != self.port.fd:
                    self.passed_on(key)
                    continue
                if events & selectors.EVENT_WRITE:
                    self.port.flush()
                if events & selectors.EVENT_READ:
                    for message in self.port.received():
                        if "end" in message:
                            return
                        self.obey(message)

    def obey(self, message: dict[str, Any]) -> None:
        if "signal" in message:
            if (process := self.running.get(message["of"])) and process.poll() is None:
                process.send_signal(message["signal"])
            return
        number = message["start"]
        with tempfile.TemporaryFile() as stdin:
            stdin.write(message["stdin"].encode())
            stdin.seek(0)
            try:
                process = subprocess.Popen(
                    message["argv"],
                    env={**os.environ, **message["env"]},
                    cwd=message["cwd"],
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
            except OSError as e:
                self.port.send(of=number, out=str(e))
                self.port.send(of=number, status=127)
                return
        assert process.stdout is not None
        self.running[number] = process
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.selector.register(process.stdout, selectors.EVENT_READ, (number, decoder))

    def passed_on(self, key: selectors.SelectorKey) -> None:
        number, decoder = key.data
        chunk = os.read(key.fd, CHUNK)
        if text := decoder.decode(chunk, final=not chunk):
            self.port.send(of=number, out=text)
        if not chunk:
            self.selector.unregister(key.fileobj)
            with self.running.pop(number) as process:  # closes its pipe and waits
                pass
            self.port.send(of=number, status=process.returncode)


def name_devices() -> None:
    """Disks and their partitions by their serial, and ports by their name, in FOLDER."""
    FOLDER.mkdir()
    for disk in Path("/sys/block").glob("vd*"):
        serial = (disk / "serial").read_text().strip()
        (FOLDER / serial).symlink_to(f"../{disk.name}")
        for partition in disk.glob("*/partition"):
            name = f"{serial}{partition.read_text().strip()}"
            (FOLDER / name).symlink_to(f"../{partition.parent.name}")
    deadline = time.monotonic() + PORT_TIME
    while not all((FOLDER / name).is_symlink() for name in PORTS):  # they come one by one
        assert time.monotonic() < deadline, os.listdir("/sys/class/virtio-ports")
        for port in Path("/sys/class/virtio-ports").glob("*/name"):
            link = FOLDER / port.read_text().strip()
            if link.name in PORTS and not link.is_symlink():
                link.symlink_to(f"../{port.parent.name}")
        time.sleep(0.05)


def loopback() -> None:
    """Bring `lo` up: there is no ip(8). Source: netdevice(7), SIOCSIFFLAGS."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up_and_running = 0x1 | 0x40
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14s", b"lo", up_and_running, b""))


def name_host() -> None:
    """sudo wants to know its address."""
    socket.sethostname("guest")
    Path("/etc/hosts").write_text("127.0.0.1 localhost guest\n", encoding="ascii")


def main() -> None:
    name_devices()
    name_host()
    loopback()
    commands = Commands(FOLDER / "control")
    with open("/proc/uptime", encoding="ascii") as uptime:
        commands.port.send(ready=float(uptime.read().split()[0]))
    commands.serve()


if __name__ == "__main__":
    main()
