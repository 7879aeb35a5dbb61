"""`leasehold engine ...` against an engine with two hosts on real sanlock."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.engine_cli import EngineCli
from tests.cli.run import Ended, until
from tests.engine_estate import Estate, estate

NOBODY = "66666666-7777-4888-8999-aaaaaaaaaaaa"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """Shared by the tests of this module, each of which removes what it makes."""
    with estate(tmp_path_factory.mktemp("estate")) as made:
        yield made


@pytest.fixture
def cli(site: Estate, tmp_path: Path) -> EngineCli:
    return EngineCli(tmp_path / "home", site.engine.url, site.engine.token)


def ok(ended: Ended) -> Ended:
    assert ended.code == 0, ended
    return ended


# --- disks ---------------------------------------------------------------------------------------


def test_a_disk_is_copied_while_its_progress_is_shown(site: Estate, cli: EngineCli) -> None:
    disk = site.disk()
    done = ok(cli("disk", "copy", disk, "--to", "array2", "--name", "twin", "--verify", "--watch"))
    assert f"copied disk {disk} to array2 as" in done.out
    twin = ok(cli("disk", "show", "twin", "--json")).json
    assert twin["status"] == "ok"
    assert site.equal(disk, twin["id"])
    site.remove(disk, twin["id"])
    site.nothing_is_left()


def test_a_disk_goes_its_way_from_add_to_remove(site: Estate, cli: EngineCli) -> None:
    size = ("--domain", "array", "--size", "1G")
    made = ok(cli("disk", "add", "web", *size, "--description", "d", "--watch", "--json")).json
    assert (made["name"], made["status"]) == ("web", "ok")
    assert made["provisioned_size"] == str(1 << 30)
    listed = ok(cli("disk", "list")).out
    assert listed.splitlines()[0].split() == ["NAME", "STATUS", "SIZE", "DOMAIN", "ID"]
    assert ["web", "ok", "1.00G", "array", made["id"]] in map(str.split, listed.splitlines())
    grown = ok(cli("disk", "extend", "web", "--size", "2G", "--watch", "--json")).json
    assert grown["provisioned_size"] == str(2 << 30)
    move = ("disk", "move", "web", "--to", "array2", "--limit", "2G", "--watch", "--json")
    moved = ok(cli(*move)).json
    assert (moved["state"], moved["disk"]) == ("succeeded", made["id"])
    assert moved["spec"]["limit"] == 2 << 30
    assert "array2" in ok(cli("disk", "show", made["id"])).out
    assert ok(cli("disk", "remove", "web", "--watch")).out.startswith("removed disk web")
    assert ok(cli("disk", "list", "--json")).json == {"disks": []}
    site.nothing_is_left()


def test_without_watch_the_ids_are_printed_and_the_job_can_be_watched(
    site: Estate, cli: EngineCli
) -> None:
    disk = site.disk()
    begun = ok(cli("disk", "copy", disk, "--to", "array2", "--json")).json
    assert set(begun) == {"job", "disk"}
    seen = ok(cli("job", "watch", begun["job"], "--json")).json
    assert (seen["id"], seen["state"]) == (begun["job"], "succeeded")
    shown = ok(cli("job", "show", begun["job"])).out
    assert "state:" in shown
    assert "finished" in shown
    assert begun["job"] in ok(cli("job", "list", "--state", "succeeded")).out
    site.remove(disk, begun["disk"])


def test_a_copy_with_the_same_correlation_id_is_one_copy(site: Estate, cli: EngineCli) -> None:
    disk = site.disk()
    words = ("disk", "copy", disk, "--to", "array2", "--correlation-id", "night-1", "--json")
    first, second = ok(cli(*words)).json, ok(cli(*words)).json
    assert first == second
    ok(cli("job", "watch", first["job"]))
    site.remove(disk, first["disk"])


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (("disk", "show", "nobody"), 3, "NoSuchObject"),
        (("disk", "show", NOBODY), 3, "NoSuchObject"),
        (("disk", "remove", 'a"b'), 3, "NoSuchObject"),
        (("disk", "copy", NOBODY, "--to", "array2"), 3, "NoSuchObject"),
        (("disk", "copy", NOBODY, "--to", "array2", "--limit", "0"), 2, "BadParameter"),
        (("disk", "add", "x", "--domain", "nowhere", "--size", "1G"), 3, "NoSuchObject"),
        (("disk", "add", "x", "--domain", "array", "--size", "much"), 2, "BadParameter"),
        (("disk", "add", "", "--domain", "array", "--size", "1G"), 2, "BadParameter"),
        (("job", "show", NOBODY), 3, "NoSuchObject"),
        (("job", "abort", "../../x"), 3, None),
        (("domain", "add", "x"), 2, "BadParameter"),
        (("domain", "add", "x", "--option", "adapter=none-such"), 2, "AdapterMissing"),
        (("domain", "add", "x", "--option", "password=1"), 2, "BadParameter"),
        (("domain", "add", "array", "--path", "/x", "--host", "host-a"), 6, "NameTaken"),
        (("domain", "remove", "data"), 6, None),
        (("host", "remove", "host-a"), 6, "WrongState"),
        (("host", "add", "x", "tcp://192.0.2.1:1"), 2, "BadParameter"),
        (("quarantine", "clear", "nothing"), 3, "NoSuchObject"),
        (("snapshot", "delete", NOBODY), 3, "NoSuchObject"),
        (("webhook", "add", "http://127.0.0.1/x"), 2, "BadParameter"),
        (("webhook", "add", "https://a.example/x", "--event", "job.progress"), 2, "BadParameter"),
        (("webhook", "remove", NOBODY), 3, "NoSuchObject"),
        (("job", "clear", NOBODY), 3, "NoSuchObject"),
    ],
)
def test_what_the_engine_refuses_is_told_with_its_code(
    cli: EngineCli, words: tuple[str, ...], code: int, kind: str | None
) -> None:
    ended = cli(*words, "--json")
    assert ended.code == code, ended
    assert kind is None or ended.error["kind"] == kind


# --- snapshots -----------------------------------------------------------------------------------


def test_a_snapshot_is_kept_tried_and_gone_back_to(site: Estate, cli: EngineCli) -> None:
    disk = site.disk()
    before = site.path(disk).read_bytes()[: 8 << 20]
    ok(cli("snapshot", "create", disk, "--description", "before", "--watch"))
    [kept] = ok(cli("snapshot", "list", disk, "--json")).json["snapshots"]
    assert (kept["description"], kept["state"]) == ("before", "ok")
    with site.path(disk).open("r+b") as file:
        file.write(b"later")
    ok(cli("snapshot", "preview", kept["id"], "--watch"))
    ok(cli("snapshot", "undo", disk, "--watch"))
    assert site.path(disk).read_bytes()[:5] == b"later"
    ok(cli("snapshot", "preview", kept["id"], "--watch"))
    ok(cli("snapshot", "commit", disk, "--watch"))
    assert site.path(disk).read_bytes()[: 8 << 20] == before
    site.remove(disk)


# --- hosts and domains ---------------------------------------------------------------------------


def test_hosts_are_listed_and_taken_out_of_work(site: Estate, cli: EngineCli) -> None:
    rows = {row["name"]: row for row in ok(cli("host", "list", "--json")).json["hosts"]}
    assert rows["host-a"]["status"] == rows["host-b"]["status"] == "up"
    ok(cli("host", "maintenance", "host-a"))
    assert "maintenance" in ok(cli("host", "show", "host-a")).out
    ok(cli("host", "activate", "host-a"))
    until(lambda: ok(cli("host", "show", "host-a", "--json")).json["status"] == "up")


def test_a_host_is_added_and_removed(cli: EngineCli, tmp_path: Path) -> None:
    made = ok(cli("host", "add", "host-c", f"unix:{tmp_path}/none", "--json")).json
    ok(cli("host", "maintenance", "host-c"))
    ok(cli("host", "remove", made["id"]))
    assert cli("host", "show", "host-c").code == 3


def test_a_managed_domain_is_added_with_its_secrets_and_forgotten(
    cli: EngineCli, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden-word")
    secret.chmod(0o600)
    options = ("--option", "adapter=file", "--option", f"path={tmp_path}/array9")
    made = ok(cli("domain", "add", "array9", *options, "--secret", f"token=file:{secret}"))
    assert "added storage domain array9" in made.out
    shown = ok(cli("domain", "show", "array9"))
    assert "option adapter:" in shown.out
    assert "hidden-word" not in shown.out + ok(cli("domain", "list", "--json")).out
    ok(cli("domain", "maintenance", "array9"))
    ok(cli("domain", "activate", "array9"))
    ok(cli("domain", "maintenance", "array9"))
    ok(cli("domain", "remove", "array9"))
    assert cli("domain", "show", "array9").code == 3


# --- the rest ------------------------------------------------------------------------------------


def test_events_are_shown_as_they_happen_and_afterwards(
    site: Estate, cli: EngineCli, tmp_path: Path
) -> None:
    with cli.started("event", "watch", "--json", "--kind", "audit.added") as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        try:
            assert "following the events" in watching.stderr.readline()
            made = ok(cli("host", "add", "host-d", f"unix:{tmp_path}/none", "--json")).json
            for line in watching.stdout:
                if json.loads(line)["data"]["object"] == made["id"]:
                    break
            watching.send_signal(signal.SIGINT)
            assert watching.wait(30) == 4
        finally:
            watching.kill()
    assert "added host host-d" in ok(cli("event", "list", "--limit", "5")).out
    ok(cli("host", "maintenance", "host-d"))
    ok(cli("host", "remove", "host-d"))


def test_webhooks_come_and_go(cli: EngineCli, tmp_path: Path) -> None:
    url, secret = "https://hooks.example.com/x", tmp_path / "secret"
    secret.write_text("sixteen letters.\n")
    secret.chmod(0o600)
    assert ok(cli("webhook", "list")).out == "no webhooks\n"
    words = ("webhook", "add", url, "--event", "command.ended", "--secret", f"file:{secret}")
    one = ok(cli(*words, "--json")).json
    two = ok(cli("webhook", "add", f"{url}/2", "--json")).json
    rows = [line.split() for line in ok(cli("webhook", "list")).out.splitlines()]
    assert rows[0] == ["WEBHOOK", "ACTIVE", "SIGNED", "EVENTS", "URL"]
    assert sorted(rows[1:]) == sorted(
        [
            [one["id"], "yes", "yes", "command.ended", url],
            [two["id"], "yes", "no", "all", f"{url}/2"],
        ]
    )
    for made in (one, two):
        assert made["id"] in ok(cli("webhook", "remove", made["id"])).out
    assert ok(cli("webhook", "list", "--json")).json == {"webhooks": []}


def test_nothing_is_in_quarantine(cli: EngineCli) -> None:
    assert ok(cli("quarantine", "list")).out == "nothing is in quarantine\n"
    assert ok(cli("quarantine", "list", "--all", "--json")).json == {"quarantine": []}


def test_a_reader_may_look_and_change_nothing(site: Estate, cli: EngineCli, tmp_path: Path) -> None:
    ok(cli("user", "add", "rita", "--role", "reader", stdin="long enough word\n"))
    rita = EngineCli(tmp_path / "rita")
    ok(rita("login", site.engine.url, "--user", "rita", stdin="long enough word\n"))
    assert ok(rita("whoami")).out == f"rita (reader) at {site.engine.url}\n"
    assert ok(rita("disk", "list", "--json")).json == {"disks": []}
    refused = rita("disk", "add", "x", "--domain", "array", "--size", "1G", "--json")
    assert (refused.code, refused.error["kind"]) == (6, "NotAllowed")
    ok(cli("user", "change", "rita", "--role", "operator"))
    assert rita("whoami").code == 6  # her token ended with that
    assert ["rita", "operator"] in map(str.split, ok(cli("user", "list")).out.splitlines())
    ok(cli("user", "remove", "rita"))


def test_a_job_of_a_host_in_trouble_can_be_aborted(site: Estate, cli: EngineCli) -> None:
    disk = site.disk(gib=4, data=b"x" * (1 << 20))
    begun = ok(cli("disk", "copy", disk, "--to", "array2", "--json")).json
    asked = cli("job", "abort", begun["job"])
    assert asked.code in (0, 6), asked  # it may be too late
    watched = cli("job", "watch", begun["job"], "--json")
    assert watched.code in (0, 4), watched
    if watched.code == 4:
        assert watched.error["data"]["job"]["state"] == "aborted"
        site.remove(disk)
    else:
        site.remove(disk, begun["disk"])
    site.nothing_is_left()


def test_names_are_completed_by_the_engine(cli: EngineCli) -> None:
    from tests.cli.test_completion import completed  # noqa: PLC0415

    assert completed(cli, "engine", "disk", "copy", "x", "--to", "arr") == ["array", "array2"]  # type: ignore[arg-type]
    assert completed(cli, "engine", "host", "show", "host-") == ["host-a", "host-b"]  # type: ignore[arg-type]
