"""The programs of our adapters: words in, one line out, and no secret among the words."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.adapters import blocking, program, tgt
from engine.adapters.commands import COMMANDS
from protocol.errors import BadParameter
from tests.servers import LOOK, WAIT

PROGRAMS = ("file", "tgt", "ceph")


def run(
    adapter: str,
    *words: str,
    stdin: bytes | None = b"",
    environment: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[bytes]":
    argv = [sys.executable, "-m", f"engine.adapters.{adapter}", *words]
    own = {**os.environ, **(environment or {})}
    return subprocess.run(argv, input=stdin, capture_output=True, timeout=60, env=own, check=False)


def error(done: "subprocess.CompletedProcess[bytes]") -> dict[str, Any]:
    """The error that was told; nothing else was."""
    assert done.returncode == 1
    assert done.stderr == b""
    [line] = done.stdout.decode().splitlines()
    assert line.startswith("error:")
    told: dict[str, Any] = json.loads(line.removeprefix("error:"))
    return told


@pytest.mark.parametrize("adapter", PROGRAMS)
def test_every_program_says_what_it_expects(adapter: str) -> None:
    assert "COMMAND DRIVER_JSON DB_URL CORRELATION_ID" in error(run(adapter))["message"]
    told = error(run(adapter, "destroy_volume", "{}", "-", "X"))
    assert told["code"] == 1000
    assert all(name in told["message"] for name in COMMANDS)


def test_the_commands_of_ovirts_engine_are_there_with_their_arguments() -> None:
    usages = {name: command.usage for name, command in COMMANDS.items()}
    assert usages == {
        "create_volume": "VOLUME GIB",
        "delete_volume": "VOLUME",
        "connect_volume": "VOLUME CONNECTOR",
        "disconnect_volume": "VOLUME [CONNECTOR]",
        "extend_volume": "VOLUME GIB",
        "save_device": "VOLUME DEVICE [CONNECTOR]",
        "get_connection_info": "VOLUME [CONNECTOR]",
        "storage_stats": "[REFRESH]",
        "clone_volume": "VOLUME NEW",
        "create_snapshot": "VOLUME [SNAPSHOT]",
        "remove_snapshot": "SNAPSHOT VOLUME",
        "create_volume_from_snapshot": "VOLUME SNAPSHOT [NEW]",
        "revert_to_snapshot": "VOLUME SNAPSHOT",
        "list_volumes": "",
        "volume_info": "VOLUME",
    }


@pytest.fixture
def driver(tmp_path: Path) -> str:
    return json.dumps({"adapter": "file", "path": str(tmp_path / "disks")})


def test_the_answer_is_one_line_that_begins_with_the_correlation_id(driver: str) -> None:
    done = run("file", "create_volume", driver, "-", "a b/c", "v1", "1")
    assert (done.returncode, done.stdout) == (0, b'a b/c:{"created":true}\n')
    done = run("file", "delete_volume", driver, "-", "X", "v1")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"X:\n", b"")


@pytest.mark.parametrize("correlation", ["", "error", "errors", "a\nb", "\t"])
def test_a_correlation_id_that_would_make_the_answer_ambiguous_is_refused(
    driver: str, correlation: str
) -> None:
    assert error(run("file", "list_volumes", driver, "-", correlation))["code"] == 1000


@pytest.mark.parametrize(
    "words",
    [
        ["create_volume", "v1"],
        ["create_volume", "v1", "1", "2"],
        ["create_volume", "v1", "0"],
        ["create_volume", "v1", "-1"],
        ["create_volume", "v1", "1.5"],
        ["create_volume", "v1", "\u0661"],
        ["create_volume", "v1", "9" * 5000],
        ["create_volume", "", "1"],
        ["create_volume", "../v1", "1"],
        ["create_volume", "a/b", "1"],
        ["create_volume", "-v", "1"],
        ["create_volume", "v.1", "1"],
        ["create_volume", "v" * 65, "1"],
        ["create_volume", "v\n", "1"],
        ["connect_volume", "v1", "host1"],
        ["connect_volume", "v1", "{}"],
        ["connect_volume", "v1", '{"host": ""}'],
        ["connect_volume", "v1", '{"host": 7}'],
        ["connect_volume", "v1", "[" * 100_000],
        ["clone_volume", "v1", "v1"],
        ["clone_volume", "v1", "../v2"],
        ["create_snapshot", "v1", "a@b"],
        ["save_device", "v1", "{"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_bad_arguments_are_refused_before_anything_is_touched(
    driver: str, words: list[str], tmp_path: Path
) -> None:
    command, *arguments = words
    assert error(run("file", command, driver, "-", "X", *arguments))["code"] == 1000
    assert not (tmp_path / "disks").exists()


@pytest.mark.parametrize(
    "driver", ["", "no", "[]", "{}", '{"path": 7}', '{"path": "relative"}', '{"path": null}']
)
def test_bad_driver_options_are_refused(driver: str) -> None:
    assert error(run("file", "list_volumes", driver, "-", "X"))["code"] == 1000


@pytest.mark.parametrize(("text", "chap"), [("true", True), ("false", False), (True, True)])
def test_options_may_be_text_as_ovirts_engine_keeps_them(text: object, chap: bool) -> None:
    given = {"path": "/p", "portal": "127.0.0.1:3260", "chap": text}
    assert program._options(json.dumps(given), tgt.Options).chap is chap
    with pytest.raises(BadParameter, match="chap"):
        program._options(json.dumps({**given, "chap": "perhaps"}), tgt.Options)


def test_options_that_are_secret_come_by_standard_input(tmp_path: Path) -> None:
    secret = json.dumps({"path": str(tmp_path / "disks")}).encode()
    driver = '{"secrets": "stdin"}'
    done = run("file", "create_volume", driver, "-", "X", "v1", "1", stdin=secret)
    assert done.returncode == 0, done
    assert (tmp_path / "disks" / "volumes" / "v1").exists()


def test_or_by_the_environment(tmp_path: Path) -> None:
    secret = {"ADAPTER_SECRETS": json.dumps({"path": str(tmp_path / "disks")})}
    done = run("file", "list_volumes", "{}", "-", "X", environment=secret)
    assert (done.returncode, done.stdout) == (0, b"X:[]\n")


def test_standard_input_is_not_read_unless_it_is_asked_for(driver: str) -> None:
    """The engine of oVirt leaves it open and writes nothing."""
    read, write = os.pipe()
    try:
        argv = [sys.executable, "-m", "engine.adapters.file", "list_volumes", driver, "-", "X"]
        done = subprocess.run(argv, stdin=read, capture_output=True, timeout=60, check=False)
    finally:
        os.close(read)
        os.close(write)
    assert (done.returncode, done.stdout) == (0, b"X:[]\n")


@pytest.mark.parametrize("text", [b"", b"{", b'"hunter2hunter2"', b'{"path": ["hunter2hunter2"]}'])
def test_secrets_that_cannot_be_read_are_not_repeated(text: bytes) -> None:
    told = error(run("file", "list_volumes", '{"secrets": "stdin"}', "-", "X", stdin=text))
    assert told["code"] == 1000
    assert "hunter2" not in json.dumps(told)


def test_storage_that_cannot_be_written_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "disks").write_text("a file")
    driver = json.dumps({"path": str(tmp_path / "disks")})
    told = error(run("file", "create_volume", driver, "-", "X", "v1", "1"))
    assert told["kind"] == "ManagedStorageFailed"
    assert "disks" in told["message"]


@pytest.mark.parametrize(
    ("adapter", "tool", "more"),
    [
        ("tgt", "tgtadm", {"portal": "127.0.0.1:1"}),
        ("file", "qemu-nbd", {}),
    ],
    ids=["tgt", "file"],
)
def test_a_program_that_is_told_to_end_ends_its_tools_first(
    adapter: str, tool: str, more: dict[str, str], tmp_path: Path
) -> None:
    """Else a tool could go on for a moment beside the command that repeats this one."""
    path = tmp_path / tool
    path.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/pid\n")
    with path.open("a") as script:
        script.write("sleep 1000000\n")
    path.chmod(0o755)
    driver = json.dumps({"path": str(tmp_path / "disks"), **more})
    assert run(adapter, "create_volume", driver, "-", "X", "v1", "1").returncode == 0
    words = ["connect_volume", driver, "-", "X", "v1", '{"host": "h", "initiator": "iqn.a:h"}']
    own = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [sys.executable, "-m", f"engine.adapters.{adapter}", *words],
        stdout=subprocess.PIPE,
        env=own,
    ) as program:
        deadline = time.monotonic() + WAIT
        while not (tmp_path / "pid").exists():
            assert time.monotonic() < deadline
            time.sleep(LOOK)
        pid = int((tmp_path / "pid").read_text())
        program.terminate()
        output, _ = program.communicate(timeout=WAIT)
    assert program.returncode == 1
    assert b"SIGTERM" in output
    assert not Path(f"/proc/{pid}").exists()


def test_the_file_adapter_does_not_import_trio() -> None:
    """A copy starts it six times, and without trio it starts in half the time."""
    script = "import sys, engine.adapters.file; sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_command_that_waits_needs_the_other_runner() -> None:
    async def waits() -> str:
        await asyncio.sleep(0)  # waits without asking who runs it
        return "X"

    with pytest.raises(RuntimeError, match="it needs"):
        blocking.finished(waits())
