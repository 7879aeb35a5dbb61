"""Disks in the XML of a domain: what changes, and that nothing else does."""

import re
import time
from collections.abc import Mapping

import pytest
from lxml import etree

from host.domain_xml import LIMIT, Disk, disks, localised, vm_id
from host.xml_text import tags
from protocol.errors import BadParameter, NoSuchDisk

VM = "dddddddd-eeee-4fff-8000-111111111111"
VOLUME = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"
LOCAL = f"/dev/ovirt-local/{VOLUME}"
OTHER = "/dev/ovirt-local/77777777-8888-4999-8aaa-cccccccccccc"

# Written as no library writes it: quotes of both kinds, blanks, comments, entities, CDATA, line
# ends, a BOM could be before it.
FILE = b"""\
    <disk   type = "file" device='disk'  snapshot='no' >\r
      <!-- > <source file='/not/this'/> -->
      <driver name='qemu'\ttype='qcow2' cache='none' error_policy='stop' io='threads'/>
      <source file="/rhev/a&amp;b/77777777" startupPolicy='optional' index='1' >
        <seclabel model='dac' relabel='no'/>
      </source>
      <backingStore type='file' index='2'>
        <format type='qcow2'/>
        <source file='/rhev/base'/>
        <backingStore type="file"><source file='/d'/><backingStore/></backingStore>
      </backingStore>
      <target dev='vda'   bus='virtio'/>
      <serial>66666666-7777-4888-8999-aaaaaaaaaaaa</serial>
      <boot order='1'/>
      <alias name='ua-1 &gt; > 0'/>
      <address type='pci' domain='0x0000' bus='0x03' slot="0x00" function='0x0'/>
    </disk>
"""
FILE_LOCAL = (
    FILE.replace(b'type = "file"', b'type = "block"')
    .replace(b"type='qcow2' cache", b"type='raw' cache")
    .replace(b'file="/rhev/a&amp;b/77777777"', f'dev="{LOCAL}"'.encode())
)
FILE_LOCAL = re.sub(
    rb"<backingStore type='file' index='2'>.*</backingStore>",
    b"<backingStore/>",
    FILE_LOCAL,
    flags=re.DOTALL,
)
NETWORK = b"""\
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw' discard='unmap'/>
      <auth username='old'>
        <secret type='ceph' uuid='x'/>
      </auth>
      <source protocol='rbd' name='pool/image' tls='no' index='3'>
        <host name='mon1' port='6789'/>
        <snapshot name='s'/>
        <seclabel model='dac' relabel='no'/>
        <auth username='new'><secret type='ceph' uuid='x'/></auth>
      </source>
      <backingStore/>
      <target dev='sdb' bus='scsi'/>
      <address type='drive' controller='0' bus='0' target='0' unit='1'/>
    </disk>
"""
NETWORK_LOCAL = b"""\
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw' discard='unmap'/>
      <source dev='LOCAL' index='3'>
        <seclabel model='dac' relabel='no'/>
      </source>
      <backingStore/>
      <target dev='sdb' bus='scsi'/>
      <address type='drive' controller='0' bus='0' target='0' unit='1'/>
    </disk>
"""
BLOCK = b"""\
    <disk type='block'>
      <driver name='qemu' type='qcow2' discard_no_unref='on'>
        <metadata_cache><max_size unit='bytes'>1024</max_size></metadata_cache>
      </driver>
      <source dev='/dev/mapper/x'>
        <reservations managed='yes'/>
        <slices><slice type='storage' offset='0' size='4096'/></slices>
      </source>
      <target dev='vdb'/>
    </disk>
"""
BLOCK_LOCAL = b"""\
    <disk type='block'>
      <driver name='qemu' type='raw'>
      </driver>
      <source dev='LOCAL'>
      </source>
      <target dev='vdb'/>
    </disk>
"""
CDROM = b"""\
    <disk type='file' device='cdrom'><source file='/iso'/><target dev='sdc'/><readonly/></disk>
"""
EMPTY = b"    <disk type='file' device='disk'><target dev='sdz'/></disk>\n"
HEAD = f"""\
<?xml version='1.0' encoding="utf-8"?>
<!-- made by hand: <disk type='file'> -->
<domain type='kvm' id="1" xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>v\u00fcm &lt;1&gt;</name>
  <uuid>{VM}</uuid>
  <title><![CDATA[ <devices><disk type='file'><target dev='vda'/></disk></devices> ]]></title>
  <metadata><o:disk xmlns:o='urn:o'><target dev='vda'/><source file='/m'/></o:disk></metadata>
  <devices>
    <emulator >/usr/bin/qemu</emulator >
""".encode()
TAIL = b"""\
    <interface type='network'><source network='default'/><target dev='vnet0'/></interface>
  </devices>
  <qemu:commandline><qemu:arg value='a"b'/></qemu:commandline>
</domain>
<?end of='it'?>
"""


def domain(*parts: bytes) -> bytes:
    return b"".join([HEAD, *parts, TAIL])


def local(part: bytes, device: str = LOCAL) -> bytes:
    return part.replace(b"LOCAL", device.encode())


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        (FILE, FILE_LOCAL, ("vda", "/rhev/a&b/77777777")),
        (NETWORK, local(NETWORK_LOCAL), ("sdb", "pool/image")),
        (BLOCK, local(BLOCK_LOCAL), ("vdb", "/dev/mapper/x")),
    ],
    ids=["file", "network", "block"],
)
def test_a_disk_becomes_local_and_all_else_keeps_its_bytes(
    before: bytes, after: bytes, names: tuple[str, ...]
) -> None:
    assert before != after
    for name in names:
        assert localised(domain(CDROM, before), {name: LOCAL}) == domain(CDROM, after)


def test_a_byte_order_mark_stays() -> None:
    bom = b"\xef\xbb\xbf"
    assert localised(bom + domain(FILE), {"vda": LOCAL}) == bom + domain(FILE_LOCAL)


def test_several_disks_become_local_at_once_and_others_stay() -> None:
    before = domain(EMPTY, NETWORK, CDROM, FILE, BLOCK)
    after = domain(EMPTY, local(NETWORK_LOCAL, OTHER), CDROM, FILE_LOCAL, BLOCK)
    assert localised(before, {"vda": LOCAL, "pool/image": OTHER}) == after
    assert disks(before) == [
        Disk("sdb", "network", "pool/image"),
        Disk("vda", "file", "/rhev/a&b/77777777"),
        Disk("vdb", "block", "/dev/mapper/x"),
    ]


def test_a_local_disk_stays_as_it_is() -> None:
    once = localised(domain(FILE, NETWORK), {"vda": LOCAL, "sdb": OTHER})
    assert localised(once, {"vda": LOCAL, "sdb": OTHER}) == once


def test_a_device_that_is_written_in_another_way_stays_as_it_is_written() -> None:
    disk = f"<disk type='bl&#111;ck'><source dev='&#47;{LOCAL[1:]}'/><target dev='vda'/></disk>"
    assert localised(domain(disk.encode()), {"vda": LOCAL}) == domain(disk.encode())


def test_a_disk_without_type_driver_or_quotes_to_copy_gets_what_it_needs() -> None:
    before = b"<disk><source file=''/><target dev='vda'/></disk>"
    after = f"<disk type='block'><source dev='{LOCAL}'/><target dev='vda'/></disk>".encode()
    assert localised(domain(before), {"vda": LOCAL}) == domain(after)


def test_an_attribute_that_was_not_there_comes_first_and_moves_no_other() -> None:
    before = b"""<disk  device="disk" ><source index='1' /><target dev='vda'/></disk>"""
    changed = f"""<disk type='block'  device="disk" ><source dev='{LOCAL}' index='1' />"""
    after = changed.encode() + b"<target dev='vda'/></disk>"
    assert localised(domain(before), {"vda": LOCAL}) == domain(after)


def test_a_name_is_written_so_that_it_is_read_again() -> None:
    device = """/dev/a'b"c<d&e>f"""
    for quote in (b"'", b'"'):
        disk = b"<disk type='file'><source file=%b/><target dev='vda'/></disk>"
        changed = localised(domain(disk % (quote + b"/x" + quote)), {"vda": device})
        [source] = etree.fromstring(changed).findall("devices/disk/source")
        assert source.get("dev") == device


def test_the_result_means_the_same_as_what_a_library_would_make() -> None:
    changed = etree.fromstring(localised(domain(FILE), {"vda": LOCAL}))
    made = etree.fromstring(domain(FILE))
    [disk] = made.findall("devices/disk")
    disk.set("type", "block")
    [driver, source, backing] = (disk.find(x) for x in ("driver", "source", "backingStore"))
    assert driver is not None
    assert source is not None
    assert backing is not None
    driver.set("type", "raw")
    del source.attrib["file"]
    source.set("dev", LOCAL)
    tail = backing.tail
    backing.clear()
    backing.tail = tail
    assert etree.tostring(changed, method="c14n") == etree.tostring(made, method="c14n")


def test_a_domain_is_known_by_its_uuid() -> None:
    assert vm_id(domain()) == VM
    assert vm_id(b"<domain/>") == ""


@pytest.mark.parametrize("name", ["sdc", "sdz", "vnet0", "", "/not/this", "/rhev/base", "/m"])
def test_a_disk_that_is_not_there_is_not_found(name: str) -> None:
    with pytest.raises(NoSuchDisk, match="it has: vda"):
        localised(domain(EMPTY, CDROM, FILE), {name: LOCAL})


def test_two_disks_of_one_name_are_not_chosen_from() -> None:
    other = FILE.replace(b"'vda'", b"'vdx'")
    with pytest.raises(BadParameter, match="2 disks"):
        localised(domain(FILE, other), {"/rhev/a&b/77777777": LOCAL})


@pytest.mark.parametrize(
    "devices",
    [{"vda": LOCAL, "/rhev/a&b/77777777": OTHER}, {"vda": LOCAL, "vdb": LOCAL}],
    ids=["disk", "device"],
)
def test_nothing_is_named_twice(devices: Mapping[str, str]) -> None:
    with pytest.raises(BadParameter, match="named twice"):
        localised(domain(FILE, BLOCK), devices)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"type='block'>", b"type='nvme'>", "its type is 'nvme'"),
        (b"<disk ", b"<disk device='lun' ", "SCSI commands"),
        (b"<target", b"<shareable/><target", "other VMs"),
        (b"<target", b"<transient/><target", "transient"),
        (b"<target", b"<mirror type='file'/><target", "mirrored"),
        (b"<target", b"<encryption format='luks'/><target", "encrypted"),
        (b"<reservations managed='yes'/>", b"<encryption format='luks'/>", "encrypted"),
        (b"<target", b"<source dev='/dev/y'/><target", "twice"),
        (b"<target", b"<driver name='qemu' type='raw'/><target", "twice"),
        (b"<target", b"<backingStore/><backingStore/><target", "twice"),
        (b"</disk>", b"<target dev='vdc'/></disk>", "twice"),
    ],
)
def test_a_disk_whose_copy_would_not_be_the_same_is_refused(
    old: bytes, new: bytes, reason: str
) -> None:
    assert old in BLOCK
    with pytest.raises(BadParameter, match=reason):
        localised(domain(BLOCK.replace(old, new)), {"vdb": LOCAL})


# --- hostile ----------------------------------------------------------------------------------


DTDS = {
    "laughs": b'<!DOCTYPE domain [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>',
    "file": b'<!DOCTYPE domain [<!ENTITY f SYSTEM "file:///etc/passwd">]>',
    "external": b'<!DOCTYPE domain SYSTEM "http://127.0.0.1:1/x.dtd">',
    "parameter": b'<!DOCTYPE domain [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x">%p;]>',
    "attributes": b"<!DOCTYPE domain [<!ATTLIST disk type CDATA 'file'>]>",
    "empty": b"<!DOCTYPE domain>",
    "after a comment": b"<!-- -- ><domain/> --><?a <domain/> ?> <!DOCTYPE domain>".replace(
        b"-- >", b"- >"
    ),
}


@pytest.mark.parametrize("dtd", DTDS.values(), ids=DTDS)
def test_a_document_type_is_refused_whatever_it_declares(dtd: bytes) -> None:
    body = domain(FILE).partition(b"<!--")[2].partition(b"-->")[2]
    for text in (dtd + body, b"\xef\xbb\xbf<?xml version='1.0'?>\n" + dtd + body):
        with pytest.raises(BadParameter, match="has a DTD;"):  # seen before it is parsed
            localised(text, {"vda": LOCAL})


@pytest.mark.parametrize("dtd", DTDS.values(), ids=DTDS)
def test_a_document_type_that_the_first_look_misses_is_refused_by_the_next(
    dtd: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two readers look for it, and one of them may be wrong."""
    monkeypatch.setattr("host.domain_xml._check_text", lambda xml: None)
    body = domain(FILE).partition(b"<!--")[2].partition(b"-->")[2]
    with pytest.raises(BadParameter, match=r"has a DTD$"):
        localised(dtd + body, {"vda": LOCAL})


@pytest.mark.parametrize("text", [b"&a;", b"&#0;", b"&#xD800;", b"&lt", b"& "])
def test_an_entity_that_xml_does_not_have_is_refused(text: bytes) -> None:
    disk = FILE.replace(b"&gt;", text)
    with pytest.raises(BadParameter, match="cannot be read"):
        localised(domain(disk), {"vda": LOCAL})


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"domain",
        b"<domain>",
        b"<domain><devices></domain></devices>",
        b"<domain/><domain/>",
        b"<!-- <domain/>",
        b"<?xml <domain/>",
        b"<a:domain/>",
        b"<domainsnapshot/>",
        b"<domain xmlns='urn:x'/>",
        b"<domain a='<'/>",
        b"<domain a='1' a='2'/>",
        b"<domain>\0</domain>",
        b"<domain>\xff</domain>",
        domain(FILE).decode().encode("utf-16"),
        b"<?xml version='1.0' encoding='utf-7'?><domain/>",
        b"<?xml version='1.0' encoding='latin-1'?><domain/>",
        b"<?xml version='1.0' encoding='iso-8859-1'?><domain/>",
        b"<?xml version='1.0' encoding='nonsense'?><domain/>",
        b"<?xml version='2.0'?>\x01<domain/>",
        b"<domain xmlns:x='http://www.w3.org/2001/XInclude'><x:include href='/x'/></domain>",
        b"<domain>" + b"<a>" * 10_000 + b"</a>" * 10_000 + b"</domain>",
    ],
    ids=lambda xml: repr(bytes(xml[:30])),
)
def test_what_is_no_domain_of_libvirt_is_refused(xml: bytes) -> None:
    with pytest.raises(BadParameter, match="domain XML"):
        disks(xml)


@pytest.mark.parametrize("length", [LIMIT + 1, 10 << 20])
def test_xml_that_is_too_long_is_refused_before_it_is_read(length: int) -> None:
    with pytest.raises(BadParameter, match="longer"):
        localised(b"<".ljust(length), {"vda": LOCAL})


ROOM = LIMIT - len(domain(FILE)) - 100
HUGE = {
    "blanks in a tag": b"<x" + b" " * ROOM + b"/>",
    "a name": b"<" + b"x" * ROOM,
    "an attribute": b"<x a='" + b"y" * ROOM + b"'/>",
    "attributes": b"<x " + b" ".join(b"a%d=''" % n for n in range(ROOM // 12)) + b"/>",
    "half an attribute": b"<x a='" + b"y" * ROOM,
    "elements": b"<x/>" * (ROOM // 4),
    "disks": EMPTY * (ROOM // len(EMPTY)),
    "comments": b"<!---->" * (ROOM // 7),
    "half a comment": b"<!-" * (ROOM // 3),
    "blanks": b"\n" * ROOM,
    "quotes": b"<x \"'" * (ROOM // 5),
}


@pytest.mark.parametrize("part", HUGE.values(), ids=HUGE)
def test_no_text_takes_more_time_than_its_length_explains(part: bytes) -> None:
    begun = time.perf_counter()
    for xml in (part, domain(part, FILE)):
        assert len(xml) <= LIMIT
        try:
            changed = localised(xml, {"vda": LOCAL})
        except BadParameter:
            continue
        assert changed == domain(part, FILE_LOCAL)
    assert time.perf_counter() - begun < 60  # with a square in it, it takes hours


@pytest.mark.parametrize("tag", [b"<source ", b"<driver ", b"<disk "])
def test_blanks_in_the_tags_of_a_disk_take_no_more_time_either(tag: bytes) -> None:
    begun = time.perf_counter()
    before, after = (part.replace(tag, tag.ljust(ROOM), 1) for part in (FILE, FILE_LOCAL))
    assert localised(domain(before), {"vda": LOCAL}) == domain(after)
    assert time.perf_counter() - begun < 60


def test_tags_stand_where_they_are_found() -> None:
    xml = domain(EMPTY, FILE, NETWORK, BLOCK, CDROM)
    found = list(tags(xml))
    assert all(xml[one.start : one.start + 1] == b"<" for one in found)
    assert all(xml[one.end - 1 : one.end] == b">" for one in found)
    begun = [one for one in found if one.kind in ("start", "empty")]
    elements = list(etree.fromstring(xml).iter(etree.Element))
    assert len(begun) == len(elements)
    for tag, element in zip(begun, elements, strict=True):
        name = str(element.tag).rpartition("}")[2]
        assert xml[tag.start : tag.attributes_start].endswith(name.encode())
        own = {key: one for key, one in tag.attributes.items() if not key.startswith("xmlns")}
        assert len(own) == len(element.attrib)
