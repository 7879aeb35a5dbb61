"""XML, read with all that is dangerous in it turned off.

No document type, therefore no entities and nothing from other files; UTF-8 only; bounded depth and
count. Nothing is fetched. The size is bounded before it gets here.
"""

import re
from datetime import UTC, datetime
from typing import Any

from lxml import etree

from engine.rest.element import Element, Many, Moment, Node, Value, text_of
from protocol.errors import BadParameter

MEDIA = "application/xml"
# A declaration can stand in a comment or CDATA too, where it would do nothing: nobody needs that.
_DECLARATIONS = ("<!DOCTYPE", "<!ENTITY", "<!ELEMENT", "<!ATTLIST", "<!NOTATION")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read(body: bytes, *, depth: int, elements: int) -> Node:
    """Raises BadParameter (1000), whose reason holds nothing of the body."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadParameter("body", "it is not UTF-8") from None
    if any(word in text for word in _DECLARATIONS):
        raise BadParameter("body", "a document type or entity is not accepted")
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever the text says of itself
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as e:
        line = getattr(e, "lineno", None)
        raise BadParameter("body", f"it is no XML, line {line}") from None
    counted = _Counted(depth, elements)
    return counted.node(root, 1)


class _Counted:
    """Elements into nodes, within bounds."""

    def __init__(self, depth: int, elements: int) -> None:
        self._depth = depth
        self._left = elements

    def node(self, element: Any, depth: int) -> Node:
        self._left -= 1 + len(element.attrib)
        if depth > self._depth or self._left < 0:
            raise BadParameter("body", "too many elements, or too many in each other")
        if not isinstance(element.tag, str):  # an entity that nobody declared
            raise BadParameter("body", "an entity is not accepted")
        attributes = [Node(_local(name), value) for name, value in element.attrib.items()]
        inner = [self.node(one, depth + 1) for one in element]
        text = "".join([element.text or "", *(one.tail or "" for one in element)]).strip()
        return Node(_local(element.tag), "" if inner else text, (*attributes, *inner))


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def write(element: Element) -> bytes:
    """An answer, with the XML declaration."""
    made = etree.Element(element.tag)
    _fill(made, element)
    written: bytes = etree.tostring(
        made, xml_declaration=True, encoding="UTF-8", standalone=True, pretty_print=True
    )
    return written


def _fill(made: Any, element: Element) -> None:
    for name, text in (("rel", element.rel), ("href", element.href), ("id", element.id)):
        if text is not None:
            made.set(name, clean(text))
    for name, value in element.fields.items():
        _field(made, name, value)


def _field(parent: Any, name: str, value: Value) -> None:
    match value:
        case None:
            pass
        case Element():
            _fill(etree.SubElement(parent, value.tag), value)
        case tuple():
            for one in value:
                _fill(etree.SubElement(parent, one.tag), one)
        case Many():
            _field(etree.SubElement(parent, name), name, value.items)
        case Moment():
            text = datetime.fromtimestamp(value.at, UTC).isoformat("T", "milliseconds")
            etree.SubElement(parent, name).text = text
        case _:
            etree.SubElement(parent, name).text = clean(text_of(value))


def clean(text: str) -> str:
    """Characters that XML cannot have, such as NUL, replaced."""
    return text if text.isprintable() else _NOT_XML.sub("\ufffd", text)


def many(name: str, value: Many) -> bytes:
    """A list as the whole answer: <disks> with a <disk> for each."""
    return write(Element(name, fields={value.tag: value.items}))
