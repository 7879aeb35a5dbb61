"""Urls: what may be said in one, and that nothing else can be smuggled in."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.url import IscsiUrl, NbdUnixUrl, NbdUrl, PathUrl, RbdUrl, Url, parse
from protocol.errors import BadParameter

IQN = "iqn.2003-01.org.example:disk.1"

GOOD: list[tuple[str, Url]] = [
    ("/dev/sda", PathUrl("/dev/sda")),
    ("/a b/ä'\"$(id)", PathUrl("/a b/ä'\"$(id)")),
    ("/json:{}", PathUrl("/json:{}")),
    ("/nbd:unix:/s", PathUrl("/nbd:unix:/s")),
    ("/x,file.driver=nbd", PathUrl("/x,file.driver=nbd")),
    ("nbd+unix:///vol?socket=/s", NbdUnixUrl("/s", "vol")),
    ("nbd+unix:///?socket=/s", NbdUnixUrl("/s", "")),
    ("NBD+UNIX:///vol?socket=/s", NbdUnixUrl("/s", "vol")),
    ("nbd+unix:///a%20b%2Fc?socket=/t%20u", NbdUnixUrl("/t u", "a b/c")),
    ("nbd+unix:///a+b?socket=/t+u", NbdUnixUrl("/t+u", "a+b")),  # no form of the web
    ("nbd+unix:///%C3%A4?socket=/%C3%A4", NbdUnixUrl("/ä", "ä")),
    ("nbd+unix:///v?socket=/a=b", NbdUnixUrl("/a=b", "v")),
    ("nbd://host", NbdUrl("host", 10809, "")),
    ("nbd://host/", NbdUrl("host", 10809, "")),
    ("nbd://host:/vol", NbdUrl("host", 10809, "vol")),
    ("nbd://host:1234/vol", NbdUrl("host", 1234, "vol")),
    ("nbd://10.0.0.1:65535/a%2Fb", NbdUrl("10.0.0.1", 65535, "a/b")),
    ("nbd://[fd00::1]:1234/vol", NbdUrl("fd00::1", 1234, "vol")),
    ("nbd://[::1]/vol", NbdUrl("::1", 10809, "vol")),
    ("nbd:host:1234", NbdUrl("host", 1234, "")),
    ("nbd:host:1234:exportname=vol", NbdUrl("host", 1234, "vol")),
    ("nbd:host:1234:exportname=a:b", NbdUrl("host", 1234, "a:b")),
    ("nbd:[::1]:1234", NbdUrl("::1", 1234, "")),
    ("nbd:unix:/s", NbdUnixUrl("/s", "")),
    ("nbd:unix:/a:b:exportname=vol", NbdUnixUrl("/a:b", "vol")),
    (f"iscsi://host/{IQN}/0", IscsiUrl("host", 3260, IQN, 0)),
    (f"iscsi://host:13260/{IQN}/7", IscsiUrl("host", 13260, IQN, 7)),
    (f"iscsi://[fd00::1]:13260/{IQN}/7", IscsiUrl("fd00::1", 13260, IQN, 7)),
    (
        f"iscsi://host/{IQN}/1?initiator-name={IQN}",
        IscsiUrl("host", 3260, IQN, 1, (("initiator-name", IQN),)),
    ),
    (
        f"iscsi://host/{IQN}/1?user=j%26%20a%3Db&password-file=/run/a%26b",
        IscsiUrl("host", 3260, IQN, 1, (("user", "j& a=b"), ("password-file", "/run/a&b"))),
    ),
    ("rbd:pool/image", RbdUrl("pool", "", "image")),
    ("rbd:pool/space/image", RbdUrl("pool", "space", "image")),
    (
        "rbd:pool/image:id=host1:conf=/etc/c.conf:keyring=/etc/k",
        RbdUrl(
            "pool", "", "image", (("id", "host1"), ("conf", "/etc/c.conf"), ("keyring", "/etc/k"))
        ),
    ),
    (r"rbd:pool/image:conf=/a\:b\@c\=d", RbdUrl("pool", "", "image", (("conf", "/a:b@c=d"),))),
]


@pytest.mark.parametrize(("text", "url"), GOOD, ids=[text for text, _ in GOOD])
def test_a_good_url_is_read(text: str, url: Url) -> None:
    assert parse(text) == url


@pytest.mark.parametrize("url", [url for _, url in GOOD], ids=str)
def test_what_a_url_says_of_itself_is_read_as_the_same(url: Url) -> None:
    assert parse(str(url)) == url


BAD = [
    "",
    "relative",
    "./x",
    "../x",
    "-x",
    "~/x",
    " /x",
    "/a\0b",
    "/a\nb",
    "/a\x7fb",
    "/\udcff",  # a file name that is not UTF-8
    "/" + "x" * 4096,
    # Other protocols, and QEMU's own language
    "json:{}",
    'json:{"driver":"file","filename":"/etc/passwd"}',
    "file:/x",
    "file:///x",
    "host_device:/dev/sda",
    "http://host/x",
    "https://host/x",
    "ftp://host/x",
    "ssh://host/x",
    "sheepdog:x",
    "fat:/x",
    "fd:3",
    "nbds://host/x",
    "nbds+unix:///x?socket=/s",
    "nbd+tcp://host/x",
    "nbd+vsock://1/x",
    "nbd+unix+x:///x?socket=/s",
    "driver=raw,file.filename=/x",
    # NBD over a unix socket
    "nbd+unix:///x",
    "nbd+unix:///x?socket=",
    "nbd+unix:///x?socket=s",
    "nbd+unix:///x?socket=%2e/s",
    "nbd+unix://host/x?socket=/s",
    "nbd+unix:///x?socket=/s&socket=/t",
    "nbd+unix:///x?socket=/s&tls-certificates=/etc",
    "nbd+unix:///x?tls-psk-file=/etc&socket=/s",
    "nbd+unix:///x?SOCKET=/s",
    "nbd+unix:///x?socket=/s#f",
    "nbd+unix:///%00?socket=/s",
    "nbd+unix:///x?socket=/%00",
    "nbd+unix:///x?socket=/%0a",
    "nbd+unix:///%ff?socket=/s",  # not UTF-8
    "nbd:unix:s",
    "nbd:unix:",
    # NBD over the network
    "nbd:",
    "nbd:/x",
    "nbd:host",
    "nbd:host:",
    "nbd:host:x",
    "nbd:host:0",
    "nbd:host:65536",
    "nbd:host:-1",
    "nbd:host:1234:exportname",
    "nbd:host:1234:tls-creds=x",
    "nbd:host,x:1",
    "nbd://",
    "nbd:///x",
    "nbd://host:0/x",
    "nbd://host:65536/x",
    "nbd://host:x/x",
    "nbd://host:\u0661/x",  # a digit that int() would take
    "nbd://host:1:2/x",
    "nbd://ho st/x",
    "nbd://host,x/y",
    "nbd://-host/x",
    "nbd://[::1/x",
    "nbd://x[::1]/x",
    "nbd://[::1]x/x",
    "nbd://[host]/x",
    "nbd://host/x?socket=/s",
    "nbd://host/x#f",
    "nbd://host/%0d",
    "nbd://user@host/x",
    # iSCSI
    "iscsi:",
    f"iscsi:{IQN}/0",
    f"iscsi:///{IQN}/0",
    f"iscsi://host/{IQN}",
    f"iscsi://host/{IQN}/",
    f"iscsi://host/{IQN}/x",
    f"iscsi://host/{IQN}/-1",
    f"iscsi://host/{IQN}/0/1",
    f"iscsi://host/{IQN}/999999",
    "iscsi://host//0",
    "iscsi://host/iqn,x/0",
    f"iscsi://host/{IQN}/0?x=y",
    f"iscsi://user@host/{IQN}/0",
    f"iscsi://host/{IQN}/0?initiator-name=",
    f"iscsi://host/{IQN}/0?initiator-name=a,b",
    f"iscsi://host/{IQN}/0?initiator-name={IQN}&initiator-name={IQN}",
    f"iscsi://host/{IQN}/0?initiator-name={IQN}&",
    f"iscsi://host/{IQN}/0?initiator-name",
    f"iscsi://host/{IQN}/0?user=joe",
    f"iscsi://host/{IQN}/0?password-file=/x",
    f"iscsi://host/{IQN}/0?user=joe&password-file=x",
    f"iscsi://host/{IQN}/0?user=joe&password-file=/x%0a",
    f"iscsi://host/{IQN}/0?user=&password-file=/x",
    f"iscsi://host/{IQN}/0?user=joe&password=/x",
    # Ceph
    "rbd:",
    "rbd:image",
    "rbd:/image",
    "rbd:pool/",
    "rbd:a/b/c/d",
    "rbd:pool/image@snapshot",
    "rbd:pool/image=x",
    r"rbd:pool/im\:age",
    "rbd:pool/image:",
    "rbd:pool/image:id",
    "rbd:pool/image:id=",
    "rbd:pool/image:id=a b",
    "rbd:pool/image:id=a:id=b",
    "rbd:pool/image:key=AQBsecret==",
    "rbd:pool/image:mon_host=evil",
    "rbd:pool/image:admin_socket=/s",
    "rbd:pool/image:conf=relative",
    "rbd:pool/image:conf=",
    "rbd:pool/image:keyring=AQBsecret",
    r"rbd:pool/image:id=a\\:keyring=/k",  # an escaped backslash, then an option to QEMU
    r"rbd:pool/image:conf=/a\\:keyring=/k",
    r"rbd:pool/image:conf=/a\\",
]


@pytest.mark.parametrize("text", BAD, ids=[ascii(text)[:60] for text in BAD])
def test_a_bad_url_is_refused(text: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parse(text)
    json.dumps(caught.value.to_rpc()).encode()
    str(caught.value).encode()


@pytest.mark.parametrize(
    "text",
    [
        "nbd://user:TOPSECRET@host/x",
        f"iscsi://user%TOPSECRET@host/{IQN}/0",
        f"iscsi://user:TOP/TOPSECRET@host/{IQN}/0",
        f"iscsi://host/{IQN}/0?user=joe&password=TOPSECRET",
        "rbd:pool/image:key=TOPSECRET",
        "rbd:pool/image:keyring=TOPSECRET",
        "https://user:TOPSECRET@host/x",
        "nbd+unix:///x?socket=/s&password=TOPSECRET",
    ],
)
def test_a_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parse(text)
    assert "TOPSECRET" not in json.dumps(caught.value.to_rpc())


def test_a_user_in_a_url_is_told_why_not() -> None:
    with pytest.raises(BadParameter, match="must not hold a user or a secret"):
        parse("nbd://user@host/x")


def test_nodes_are_those_of_qemu() -> None:
    nodes = {text: parse(text) for text, url in GOOD if not isinstance(url, PathUrl)}
    unix = nodes["nbd+unix:///a%20b%2Fc?socket=/t%20u"]
    assert isinstance(unix, NbdUnixUrl)
    server = {"type": "unix", "path": "/t u"}
    assert unix.node() == {"driver": "nbd", "server": server, "export": "a b/c"}
    inet = nodes["nbd://[fd00::1]:1234/vol"]
    assert isinstance(inet, NbdUrl)
    server = {"type": "inet", "host": "fd00::1", "port": "1234"}
    assert inet.node() == {"driver": "nbd", "server": server, "export": "vol"}
    iscsi = nodes[f"iscsi://[fd00::1]:13260/{IQN}/7"]
    assert isinstance(iscsi, IscsiUrl)
    assert iscsi.node() == {
        "driver": "iscsi",
        "transport": "tcp",
        "portal": "[fd00::1]:13260",
        "target": IQN,
        "lun": 7,
    }
    chap = nodes[f"iscsi://host/{IQN}/1?user=j%26%20a%3Db&password-file=/run/a%26b"]
    assert isinstance(chap, IscsiUrl)
    assert chap.node()["user"] == "j& a=b"
    assert chap.node()["password-secret"] == "/run/a&b"  # see processes.image_node.secrets
    rbd = nodes[r"rbd:pool/image:conf=/a\:b\@c\=d"]
    assert isinstance(rbd, RbdUrl)
    assert rbd.node() == {"driver": "rbd", "filename": r"rbd:pool/image:conf=\/a\:b\@c\=d"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("nbd:HOST:10809:exportname=v", "nbd://host/v"),
        ("nbd:unix:/s:exportname=v", "nbd+unix:///v?socket=/s"),
        ("nbd:unix:/run/../s", "nbd+unix:///?socket=/s"),
        (f"iscsi://host/{IQN}/0", f"iscsi://HOST:3260/{IQN.upper()}/0"),
        (f"iscsi://host/{IQN}/0", f"iscsi://host/{IQN}/0?user=joe&password-file=/x"),
        ("rbd:pool/image:id=a", "rbd:pool/image:id=b"),
        ("rbd:pool/image", "rbd:pool/image:conf=/etc/ceph/ceph.conf"),
        ("/x/../y", "/y"),
    ],
)
def test_one_thing_has_one_key_however_it_is_named(one: str, other: str) -> None:
    assert parse(one).key == parse(other).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("nbd://host/v", "nbd://host/V"),
        ("nbd://host/v", "nbd://host:10810/v"),
        ("nbd+unix:///a?socket=/s", "nbd+unix:///b?socket=/s"),
        (f"iscsi://host/{IQN}/0", f"iscsi://host/{IQN}/1"),
        ("rbd:pool/image", "rbd:pool/space/image"),
        ("rbd:pool/image:conf=/a", "rbd:pool/image:conf=/b"),
        ("/x", "/X"),
    ],
)
def test_two_things_have_two_keys(one: str, other: str) -> None:
    assert parse(one).key != parse(other).key


def test_links_to_a_path_or_a_socket_have_its_key(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert PathUrl(f"{tmp_path}/link").key == PathUrl(f"{tmp_path}/real").key
    sockets = [NbdUnixUrl(f"{tmp_path}/{name}", "v").key for name in ("link", "real")]
    assert sockets[0] == sockets[1]


TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40)
HOSTS = st.sampled_from(["host", "a.b-c_d", "10.0.0.1", "::1", "fd00::1:2"])
PORTS = st.integers(1, 65535)


@given(socket=TEXTS, export=TEXTS)
def test_any_socket_and_export_survive_the_round_trip(socket: str, export: str) -> None:
    url = NbdUnixUrl(f"/{socket}", export)
    assert parse(str(url)) == url


@given(host=HOSTS, port=PORTS, export=TEXTS)
def test_any_server_and_export_survive_the_round_trip(host: str, port: int, export: str) -> None:
    url = NbdUrl(host, port, export)
    assert parse(str(url)) == url


@given(path=TEXTS.filter(lambda text: "\\" not in text))
def test_any_path_of_ceph_survives_the_round_trip(path: str) -> None:
    url = RbdUrl("pool", "", "image", (("conf", f"/{path}"), ("id", "host1")))
    assert parse(str(url)) == url


@given(
    text=st.text(max_size=80), scheme=st.sampled_from(["", "nbd:", "nbd+unix:", "iscsi:", "rbd:"])
)
def test_any_text_is_read_or_refused_and_what_was_read_is_stable(text: str, scheme: str) -> None:
    try:
        url = parse(scheme + text)
    except BadParameter:
        return
    assert parse(str(url)) == url
