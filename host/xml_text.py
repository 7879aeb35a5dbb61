"""The tags in the bytes of an XML document: where they stand, and changes of them.

For documents that a parser has found well-formed, in an encoding that contains ASCII: it finds the
places, and checks nothing that the parser checks. Its time grows with the length of the text and
no faster, whatever the text is. Source: https://www.w3.org/TR/xml/
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

Kind = Literal["start", "end", "empty", "comment", "cdata", "instruction", "doctype"]

# What begins with these ends with those, whatever is in between.
_SECTIONS: tuple[tuple[bytes, bytes, Kind], ...] = (
    (b"<!--", b"-->", "comment"),
    (b"<![CDATA[", b"]]>", "cdata"),
    (b"<?", b"?>", "instruction"),
)
_BLANKS = b" \t\r\n"
_NAME = re.compile(rb"</?[^\s/>]+")
_QUOTE_OR_END = re.compile(rb"""["'>]""")
# The look behind: blanks are not tried again from each of them.
_ATTRIBUTE = re.compile(rb"""(?<!\s)\s+([^\s/>"'=<]+)\s*=\s*("[^"<]*"|'[^'<]*')""")


class Edit(NamedTuple):
    """Bytes from start to end, and what comes instead of them."""

    start: int
    end: int
    instead: bytes


class Attribute(NamedTuple):
    """start: of the blanks before it; value: between its quotes, as it is written."""

    start: int
    name_start: int
    value_start: int
    end: int
    quote: bytes
    value: bytes


class Tag(NamedTuple):
    """A tag of `xml`, or what else stands in < and >. blanks: how many there are before it.

    attributes_start, attributes_end: where the text with the attributes stands.
    """

    xml: bytes
    kind: Kind
    start: int
    end: int
    blanks: int
    attributes_start: int
    attributes_end: int

    @property
    def attributes(self) -> dict[str, Attribute]:
        return {
            one[1].decode("utf-8", "replace"): Attribute(
                start=one.start(),
                name_start=one.start(1),
                value_start=one.start(2) + 1,
                end=one.end(),
                quote=one[2][:1],
                value=one[2][1:-1],
            )
            for one in _ATTRIBUTE.finditer(self.xml, self.attributes_start, self.attributes_end)
        }

    def set(self, name: str, value: str) -> Iterator[Edit]:
        """An attribute with another value; as the first one, if it is not there."""
        one = self.attributes.get(name)
        if one is None:
            text = b" " + name.encode() + b"='" + _written(value, b"'") + b"'"
            yield Edit(self.attributes_start, self.attributes_start, text)
        elif _written(value, one.quote) != one.value:
            yield Edit(one.value_start, one.end - 1, _written(value, one.quote))

    def replace(self, name: str, new: str, value: str) -> Iterator[Edit]:
        """An attribute that is there by another one, with the same quotes."""
        one = self.attributes[name]
        text = new.encode() + b"=" + one.quote + _written(value, one.quote) + one.quote
        yield Edit(one.name_start, one.end, text)

    def drop(self, name: str) -> Iterator[Edit]:
        """With the blanks before it; one that is not there is no error."""
        if one := self.attributes.get(name):
            yield Edit(one.start, one.end, b"")


def tags(xml: bytes) -> Iterator[Tag]:
    """Everything in < and >, in its order. Raises ValueError: what begins does not end."""
    end = 0
    while (at := xml.find(b"<", end)) >= 0:
        blanks = at - end - len(xml[end:at].rstrip(_BLANKS))
        tag = _tag(xml, at, blanks)
        yield tag
        end = tag.end


def edited(xml: bytes, edits: Iterable[Edit]) -> bytes:
    """The document with changes, none of which may touch another one."""
    parts, at = [], 0
    for edit in sorted(edits):
        assert at <= edit.start <= edit.end, edit
        parts += [xml[at : edit.start], edit.instead]
        at = edit.end
    return b"".join([*parts, xml[at:]])


def _tag(xml: bytes, at: int, blanks: int) -> Tag:
    for begin, end, kind in _SECTIONS:
        if xml.startswith(begin, at):
            stop = xml.find(end, at + len(begin))
            if stop < 0:
                raise ValueError(f"what begins at byte {at} does not end")
            return Tag(xml, kind, at, stop + len(end), blanks, at + len(begin), stop)
    if xml.startswith(b"<!", at):  # its end is not looked for: who meets one stops
        return Tag(xml, "doctype", at, len(xml), blanks, at, at)
    if not (name := _NAME.match(xml, at)):
        raise ValueError(f"what begins at byte {at} is no tag")
    stop = _end(xml, name.end())
    if xml.startswith(b"</", at):
        return Tag(xml, "end", at, stop, blanks, name.end(), stop - 1)
    if xml.startswith(b"/>", stop - 2):
        return Tag(xml, "empty", at, stop, blanks, name.end(), stop - 2)
    return Tag(xml, "start", at, stop, blanks, name.end(), stop - 1)


def _end(xml: bytes, at: int) -> int:
    """The end of a tag whose name has ended; there may be a > in quotes."""
    while found := _QUOTE_OR_END.search(xml, at):
        if found[0] == b">":
            return found.end()
        at = xml.find(found[0], found.end()) + 1
        if not at:
            break
    raise ValueError("a tag does not end")


def _written(value: str, quote: bytes) -> bytes:
    """Escaped for an attribute in these quotes."""
    text = value.encode().replace(b"&", b"&amp;").replace(b"<", b"&lt;")
    return text.replace(quote, b"&quot;" if quote == b'"' else b"&apos;")
