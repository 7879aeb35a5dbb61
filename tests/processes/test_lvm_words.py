"""What may be said to LVM, and the words in which it is said."""

import itertools
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes.lvm import Lvm
from processes.lvm_command import command
from processes.lvm_operation import READS, Operation, Verb, parsed
from protocol.errors import BadParameter

GROUP = "ovirt-local"
DISK = "77777777-7777-4888-8999-aaaaaaaaaaaa"
JOB = "JOB_11111111-2222-4333-8444-555555555555"
IMAGE = "IU_66666666-7777-4888-8999-aaaaaaaaaaaa"
OURS = (IMAGE,)
SIZE = 1 << 30
HOSTILE = [
    "",
    "-",
    "--force",
    "-an",
    "../pool0",
    "..",
    ".",
    "a/b",
    "/dev/sda",
    "@UPDATING",
    f"{DISK}\n",
    f"{DISK}\n--yes",
    f" {DISK}",
    f"{DISK} x",
    DISK.upper(),
    f"{DISK}x",
    "77777777",
    'x" || lv_name!="',
    "x\0y",
    "\N{FULLWIDTH DIGIT SEVEN}" + DISK[1:],
    "pool0",
    "x" * 10_000,
]
ALL = [
    Operation("volumes"),
    Operation("volume", DISK),
    Operation("group"),
    Operation("pool", "pool0"),
    Operation("create", DISK, SIZE, None, ("UPDATING", IMAGE)),
    Operation("create", DISK, SIZE, "pool0", (IMAGE,)),
    Operation("change", DISK, add=("STARTED", "AT_1"), remove=("AT_0", "UPDATING"), having=OURS),
    Operation("activate", DISK, having=OURS),
    Operation("deactivate", DISK, having=OURS),
    Operation("remove", DISK, having=OURS),
    Operation("remove", DISK, having=(JOB, IMAGE)),
    Operation("wake", "pool0"),
]
OF_A_DISK: list[Verb] = ["volume", "create", "change", "activate", "deactivate", "remove"]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:30])
@pytest.mark.parametrize("verb", OF_A_DISK)
def test_only_a_uuid_in_small_letters_is_the_name_of_a_disk(verb: Verb, name: str) -> None:
    with pytest.raises(BadParameter):
        Operation(verb, name, SIZE, add=("STARTED",), having=OURS)


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "-x",
        "@x",
        "UPDATING,x",
        "updating",
        "IU_",
        "IU_1",
        f"{JOB}\n",
        "GEN_1000",
        "GEN_-1",
        "AT_",
        "AT_1234567890123",
        "ours",
        f"VM_{DISK.upper()}",
        "MDT_TYPE=Data",
        "x" * 10000,
    ],
    ids=lambda tag: repr(tag)[:30],
)
@pytest.mark.parametrize("field", ["add", "remove", "having"])
def test_no_tag_but_those_of_local_disks_is_given_or_taken(field: str, tag: str) -> None:
    words: dict[str, Any] = {"add": ("STARTED",), "having": OURS}
    with pytest.raises(BadParameter):
        Operation("change", DISK, **{**words, field: (IMAGE, tag)})


@pytest.mark.parametrize(
    "name",
    ["", "-x", ".x", "..", "a/b", "a b", "a\n", "a\0", '"', "@x", "x" * 65, "ä", "a,b", "a|b"],
)
def test_a_name_that_lvm_could_misread_is_that_of_no_group_and_pool(name: str) -> None:
    with pytest.raises(BadParameter):
        Lvm(name)
    with pytest.raises(BadParameter):
        Operation("pool", name)
    with pytest.raises(BadParameter):
        Operation("create", DISK, SIZE, name)


@pytest.mark.parametrize(
    "name", ["snapshot1", "pvmove0", "pool0_tdata", "pool0_tmeta", "a_rmeta_1"]
)
def test_a_name_that_lvm_keeps_for_itself_is_that_of_no_pool(name: str) -> None:
    with pytest.raises(BadParameter, match="keeps for itself"):
        Operation("wake", name)


@pytest.mark.parametrize(
    "device",
    [
        "",
        "sdb",
        "/etc/passwd",
        "/dev/../etc/passwd",
        "/dev/./sdb",
        "/dev/",
        "/dev/sdb\n",
        "/dev/a b",
        '/dev/sdb","a|.*|',
        "/dev/.*",
        "/dev/sd[ab]",
        "/dev/sdb$",
        "/dev/a|b",
        "/dev/a\\b",
    ],
)
def test_a_device_is_a_path_below_dev_and_no_pattern(device: str) -> None:
    with pytest.raises(BadParameter):
        Lvm(GROUP, devices=(device,))


@pytest.mark.parametrize("size", [0, -512, 1, 513, 1 << 61])
def test_a_size_is_whole_sectors(size: int) -> None:
    with pytest.raises(BadParameter):
        Operation("create", DISK, size)


@pytest.mark.parametrize("operation", ALL, ids=lambda operation: " ".join(operation.words())[:50])
def test_words_are_read_as_they_were_written(operation: Operation) -> None:
    assert parsed(operation.words()) == operation


def test_every_verb_is_among_them() -> None:
    assert {operation.verb for operation in ALL} == set(get_args(Verb))


@pytest.mark.parametrize(
    "words",
    [
        [],
        [""],
        ["lvs"],
        ["volumes", DISK],
        ["volumes", "--help"],
        ["group", "other"],
        ["volume"],
        ["volume", DISK, DISK],
        ["pool"],
        ["create", DISK],
        ["create", DISK, "1g", "-", IMAGE],
        ["create", DISK, "-512", "-"],
        ["create", DISK, "9" * 5000, "-"],
        ["create", DISK, "\N{ARABIC-INDIC DIGIT FIVE}12", "-"],
        ["create", DISK, str(SIZE), "-", "--addtag", "x"],
        ["create", DISK, str(SIZE), "--type", "raid1"],
        ["change", DISK],
        ["change", DISK, f"={IMAGE}"],
        ["change", DISK, "+STARTED"],
        ["change", DISK, "=STARTED", "+STARTED"],
        ["change", DISK, f"={IMAGE}", "STARTED"],
        ["change", DISK, f"={IMAGE}", "+STARTED", "UPDATING"],
        ["change", DISK, f"={IMAGE}", "--deltag", "UPDATING"],
        ["activate", DISK],
        ["activate", DISK, f"={IMAGE}", "--force"],
        ["activate", DISK, f"={IMAGE}", "+STARTED"],
        ["remove"],
        ["remove", DISK],
        ["remove", DISK, IMAGE],
        ["remove", DISK, f"={JOB}"],
        ["remove", DISK, f"={IMAGE}", "--force"],
        ["remove", DISK, *[f"={IMAGE}"] * 100],
        ["remove", f"ovirt-local/{DISK}", f"={IMAGE}"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_other_words_are_refused(words: list[str]) -> None:
    with pytest.raises(BadParameter):
        parsed(words)


WORDS = st.one_of(
    st.sampled_from([*get_args(Verb), DISK, "-", str(SIZE), "pool0", "STARTED", "+STARTED", IMAGE]),
    st.sampled_from([f"={IMAGE}", f"+{JOB}", f"-{JOB}"]),
    st.text(max_size=50),
)


@given(st.lists(WORDS, max_size=8))
def test_whatever_is_read_becomes_a_command_without_an_option_of_the_caller(
    words: list[str],
) -> None:
    try:
        operation = parsed(words)
    except BadParameter:
        return
    built = command(operation, GROUP, ())
    known = set(itertools.chain.from_iterable(command(one, GROUP, ()) for one in ALL))
    assert {word for word in built if word.startswith("-")} <= known
    assert all(word.isascii() and word.isprintable() for word in built)


def test_only_these_devices_are_looked_at() -> None:
    built = command(Operation("group"), GROUP, ("/dev/disk/by-id/a.b+c", "/dev/sdb"))
    accepted = '"a|^/dev/disk/by-id/a[.]b[+]c$|","a|^/dev/sdb$|"'
    assert f'devices {{ use_devicesfile=0 filter=[{accepted},"r|.*|"] }}' in built


def test_reading_changes_nothing() -> None:
    programs = {operation.verb: command(operation, GROUP, ())[1] for operation in ALL}
    assert {verb for verb, name in programs.items() if name in ("lvs", "vgs")} == READS
