"""Urls of external endpoints.

Oracle: BadParameter (1000), or a typed url that is written in one normal form, which is read as the
same url with the same key; that names nothing but what its fields say, and holds no control
character, user or secret. No message repeats a secret.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.url import (
    IscsiUrl,
    NbdUnixUrl,
    NbdUrl,
    PathUrl,
    RbdUrl,
    Url,
    parse,
)
from protocol.errors import BadParameter
from tests.properties.inputs import bounded, tries

STARTS = ("", "/", "nbd:", "nbd:unix:/", "nbd://", "nbd+unix:///", "iscsi://", "rbd:", "file:/")
PIECES = [":", "/", "//", "@", "?", "=", "%", "%2F", "%00", "%0a", "\\", "[::1]", "socket=/", "x"]

words = st.text(st.sampled_from("abcXYZ019-_. äé+#&=@?%\\"), min_size=1, max_size=8)
ports = st.integers(1, 65535)
hosts = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,8})", fullmatch=True) | st.just("2001:db8::1")
paths = st.lists(words, min_size=1, max_size=3).map(lambda w: "/" + "/".join(w))
targets = st.from_regex(r"iqn\.[a-z0-9.:-]{1,9}", fullmatch=True)
_plain = st.characters(codec="utf-8", exclude_characters="/@:=\\", exclude_categories=["C", "Z"])
pools = st.text(_plain, min_size=1, max_size=8)
urls: st.SearchStrategy[Url] = st.one_of(
    st.builds(PathUrl, paths),
    st.builds(NbdUnixUrl, paths, st.just("") | words),
    st.builds(NbdUrl, hosts, ports, st.just("") | words),
    st.builds(
        IscsiUrl,
        hosts,
        ports,
        targets,
        st.integers(0, 255),
    ),
    st.builds(
        lambda pool, space, image, id, conf: RbdUrl(
            pool, space, image, (*id, *(("conf", c) for c in conf))
        ),
        pools,
        st.just("") | pools,
        pools,
        st.sampled_from([(), (("id", "host1"),)]),
        st.lists(paths.filter(lambda p: "\\" not in p), max_size=1),
    ),
)


def read(text: str) -> Url | None:
    with bounded():
        try:
            url = parse(text)
        except BadParameter:
            return None
    check(url)
    return url


def check(url: Url) -> None:
    normal = str(url)
    for part in vars(url).values():  # what percent signs hid is there in plain
        assert not any(c < " " or c == "\x7f" for c in str(part))
    if isinstance(url, PathUrl):
        assert url.path.startswith("/")
        return
    # In the normal form what needs them has percent signs: no control character is left.
    assert normal.isprintable() or not normal.isascii()
    assert not any(c < " " or c == "\x7f" for c in normal)
    again = parse(normal)
    assert again == url
    assert again.key == url.key
    node = json.loads(json.dumps(url.node()))
    assert node["driver"] in ("nbd", "iscsi", "rbd")
    known = {"driver", "server", "export", "transport", "portal", "target", "lun", "filename"}
    assert set(node) <= known
    if isinstance(url, RbdUrl):
        assert {key for key, _ in url.options} <= {"id", "conf", "keyring"}
        assert len(dict(url.options)) == len(url.options)
        assert node["filename"] == normal
    else:
        assert "@" not in normal.split("/")[2]


@tries("url", each=len(STARTS))
@given(st.text(max_size=40))
def test_no_text_crashes_the_reader(text: str) -> None:
    for start in STARTS:
        read(start + text)


@tries("url", each=len(STARTS))
@given(st.lists(st.sampled_from(PIECES) | words, max_size=8).map("".join))
def test_no_mixture_of_pieces_crashes_the_reader_or_hides_something(text: str) -> None:
    for start in STARTS:
        read(start + text)


@tries("url")
@given(urls)
def test_a_url_is_read_back_from_its_normal_form(url: Url) -> None:
    assert read(str(url)) == url


@tries("url", each=8)
@given(urls, st.integers(0, 200), st.text(min_size=1, max_size=1) | st.sampled_from(PIECES))
def test_a_url_with_something_in_between_is_refused_or_reads_as_it_stands(
    url: Url, first: int, piece: str
) -> None:
    text = str(url)
    for step in range(8):
        at = (first + step * 7) % (len(text) + 1)
        read(text[:at] + piece + text[at:])
        read(text[:at] + piece + text[at + 1 :])


secrets = st.from_regex(r"S3cr3t[A-Za-z0-9]{12}", fullmatch=True)


@tries("url", each=7)
@given(secrets, words, st.sampled_from(["", "\n", "\x00", " ", "x" * 5000]))
def test_no_message_repeats_a_secret(secret: str, word: str, end: str) -> None:
    for text in (
        f"nbd://user:{secret}@{word}/x{end}",
        f"nbd://user:{secret}{end}@{word}/x",
        f"iscsi://user%{secret}@{word}/iqn.x/0{end}",
        f"http://{word}:{secret}@host/x{end}",
        f"rbd:pool/image:key={secret}{end}",
        f"rbd:pool/image:password={secret}:{word}{end}",
        f"nbd+unix:///x?socket=/x&password={secret}{end}",
    ):
        with pytest.raises(BadParameter) as caught:
            parse(text)
        assert secret not in str(caught.value), text


@tries("url", each=3)
@given(urls, urls)
def test_urls_of_different_things_have_different_keys(one: Url, other: Url) -> None:
    """And one thing has one key, however its host is written."""
    if one.key == other.key:
        assert type(one) is type(other)
        assert str(one) == str(other) or not isinstance(one, NbdUrl | IscsiUrl)
    if isinstance(one, NbdUrl | IscsiUrl):
        louder: Any = type(one)(**{**vars(one), "host": one.host.upper()})
        assert louder.key == one.key
        moved: Any = type(one)(**{**vars(one), "port": one.port % 65535 + 1})
        assert moved.key != one.key
