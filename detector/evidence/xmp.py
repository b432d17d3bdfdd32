"""XMP packets: set some properties and keep all else byte for byte.

A packet is parsed only to find where things lie; its text is then cut and extended at those places. So
comments, padding, prefixes and the order of other people's properties stay as they are.

The form is that of ISO 16684-1 (Adobe, "XMP Specification Part 1", clause 7): below ``rdf:RDF`` lie nodes
that all describe one resource (``rdf:about``); properties are the attributes and child elements of those.

Names are written ``{namespace}local``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from ..errors import InputError

MAX_BYTES = 4 * 2**20
_MAX_DEPTH = 200
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_ROOT = f"{{{_RDF}}}RDF"
_RESOURCE = f"{{{_RDF}}}resource"
# Attributes of a node that say which resource it is about, and are no properties.
_NO_PROPERTIES = {f"{{{_RDF}}}{name}" for name in ("about", "ID", "nodeID")} | {
    "about",
    "{http://www.w3.org/XML/1998/namespace}lang",
}
_ABOUT = f"{{{_RDF}}}about"
_SEPARATOR = "\x1f"  # cannot occur in XML, so no name can be taken for another
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_TAG = re.compile(rb"<([^\s/>]+)((?:\s+[^\s=]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*)\s*(/?)>")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EMPTY = (
    f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/">\n <rdf:RDF xmlns:rdf="{_RDF}">\n </rdf:RDF>\n</x:xmpmeta>\n'
    f'<?xpacket end="w"?>\n'
).encode()


def read(packet: bytes, wanted: Callable[[str], bool]) -> dict[str, str]:
    """The text of a packet's properties.

    Args:
        packet: the packet, UTF-8.
        wanted: says of a property's name whether to read it.

    Raises:
        InputError: ``bad_xmp``: not a well-formed packet, or with a document type or entities.
    """
    return _Reader(_clean(packet), wanted).values


def merge(
    packet: bytes | None,
    properties: Mapping[str, str],
    prefixes: Mapping[str, str],
    replaces: Callable[[str], bool],
) -> bytes:
    """A packet with the given properties in a node of their own, the last one.

    Args:
        packet: the packet that is there, UTF-8; ``None`` for none.
        properties: text values by name.
        prefixes: a prefix for each namespace in ``properties``.
        replaces: says of a property's name whether what is there is to go.

    Raises:
        InputError: ``bad_xmp``: as for `read`; then nothing can be merged.
    """
    data = _EMPTY if packet is None else _clean(packet)
    found = _Reader(data, replaces)
    node = _node(properties, prefixes, found.about)
    _, opened, close = found.root
    if close is None:  # <rdf:RDF/>
        start = found.root[0]
        tag = _tag(data, start)
        edits = [(tag.start(3), opened, b">\n" + node + b"\n</" + tag[1] + b">")]
    else:
        at = _before_space(data, close)
        edits = [(start, end, b"") for start, end in found.cuts] + [(at, at, b"\n" + node)]
    merged = _edited(data, edits)
    if _Reader(merged, replaces).values != {name: _plain(value) for name, value in properties.items()}:
        raise _bad("is of a form that cannot be merged with")
    return merged


def _edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    parts, done = [], 0
    for start, end, text in sorted(edits):
        parts += [data[done:start], text]
        done = end
    return b"".join([*parts, data[done:]])


def _node(properties: Mapping[str, str], prefixes: Mapping[str, str], about: bytes) -> bytes:
    lines = [f'  <rdf:Description xmlns:rdf="{_RDF}" rdf:about='.encode() + about]
    spaces = sorted({name[1:].partition("}")[0] for name in properties})
    lines += [f"    xmlns:{prefixes[space]}={quoteattr(space)}".encode() for space in spaces]
    lines[-1] += b">"
    for name, value in properties.items():
        space, _, local = name[1:].partition("}")
        tag = f"{prefixes[space]}:{local}"
        text = escape(_plain(value), {"\r": "&#13;"})
        lines.append(f"   <{tag}>{text}</{tag}>".encode())
    return b"\n".join([*lines, b"  </rdf:Description>"])


@dataclass(slots=True)
class _Node:
    start: int
    others: int = 0
    cuts: list[tuple[int, int]] = field(default_factory=list)


class _Reader:
    """One pass over a packet: values of the properties asked for, and where they lie.

    Attributes:
        values: text by name.
        cuts: stretches of the packet, apart from each other, that hold exactly those properties.
        root: where the RDF element starts, where its start tag ends, and where its end tag starts
            (``None`` when it has none).
        about: the quoted text of ``rdf:about``.
    """

    def __init__(self, data: bytes, wanted: Callable[[str], bool]) -> None:
        self.values: dict[str, str] = {}
        self.cuts: list[tuple[int, int]] = []
        self.root: tuple[int, int, int | None] = (-1, -1, None)
        self.about = b'""'
        self._data = data
        self._wanted = wanted
        self._depth = 0
        self._root_depth: int | None = None
        self._node = _Node(-1)
        self._property: str | None = None
        self._property_start = 0
        self._text: list[str] = []
        # The last start tag's end, by level: an end event of <a/> lies there and nowhere else.
        self._opened: dict[int, tuple[int, bool]] = {}
        self._parser = parser = expat.ParserCreate("utf-8", _SEPARATOR)
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.XmlDeclHandler = self._declared
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise _bad(f"is not well-formed XML ({error})") from None
        if self.root[0] < 0:
            raise _bad("holds no rdf:RDF")

    def _declared(self, version: str, encoding: str | None, standalone: int) -> None:
        if (encoding or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii", "ascii"):
            raise _bad("is not UTF-8")

    def _refuse(self, *_: object) -> None:
        raise _bad("has a document type, which can hide an attack")

    def _level(self) -> int | None:
        return None if self._root_depth is None else self._depth - self._root_depth

    def _start(self, name: str, attributes: list[str]) -> None:
        at = self._parser.CurrentByteIndex
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _bad("is nested too deeply")
        name = _clark(name)
        if self._root_depth is None and name == _ROOT and self._depth <= 2:
            if self.root[0] >= 0:
                raise _bad("has more than one rdf:RDF")
            self._root_depth = self._depth
        level = self._level()
        if level is None or level > 2:
            return
        tag = _tag(self._data, at)
        self._opened[level] = (tag.end(), bool(tag[3]))
        if level == 0:
            self.root = (at, tag.end(), None)
        elif level == 1:
            self._node = _Node(at)
            self._attributes(tag, attributes)
        elif self._wanted(name):
            self._property, self._property_start, self._text = name, at, []
            values = dict(zip(map(_clark, attributes[::2]), attributes[1::2], strict=True))
            if _RESOURCE in values:
                self._text.append(values[_RESOURCE])
        else:
            self._node.others += 1

    def _attributes(self, tag: re.Match[bytes], attributes: list[str]) -> None:
        spans = [
            match
            for match in _ATTRIBUTE.finditer(self._data, tag.start(2), tag.end(2))
            if match[1] != b"xmlns" and not match[1].startswith(b"xmlns:")
        ]
        for match, name, value in zip(spans, map(_clark, attributes[::2]), attributes[1::2], strict=True):
            if name == _ABOUT and len(self.about) == 2:
                self.about = match[2]
            if name in _NO_PROPERTIES:
                continue
            if self._wanted(name):
                self.values[name] = value
                self._node.cuts.append(match.span())
            else:
                self._node.others += 1

    def _characters(self, text: str) -> None:
        if self._property is not None:
            self._text.append(text)

    def _end(self, name: str) -> None:
        level = self._level()
        at = self._parser.CurrentByteIndex
        self._depth -= 1
        if level is None or level > 2:
            return
        opened, empty = self._opened[level]
        end = opened if empty else self._data.index(b">", at) + 1
        if level == 0:
            self.root = (*self.root[:2], None if empty else at)
            self._root_depth = None
        elif level == 1:
            node = self._node
            if node.cuts and not node.others:  # it held nothing else: it goes as a whole
                node.cuts = [(_before_space(self._data, node.start), end)]
            self.cuts += node.cuts
        elif self._property is not None:
            self.values[self._property] = "".join(self._text).strip()
            self._node.cuts.append((_before_space(self._data, self._property_start), end))
            self._property = None


def _tag(data: bytes, at: int) -> re.Match[bytes]:
    match = _TAG.match(data, at)
    if match is None:  # cannot be: the parser has read a start tag here
        raise _bad("is of a form that cannot be read")
    return match


def _clark(name: str) -> str:
    space, separator, local = name.partition(_SEPARATOR)
    return f"{{{space}}}{local}" if separator else name


def _before_space(data: bytes, at: int) -> int:
    while at and data[at - 1] in b" \t\r\n":
        at -= 1
    return at


def _plain(value: str) -> str:
    return _NO_XML.sub("\ufffd", value).strip()


def _clean(packet: bytes) -> bytes:
    if len(packet) > MAX_BYTES:
        raise _bad(f"is larger than {MAX_BYTES >> 20} MiB")
    packet = packet.rstrip(b"\0")  # some writers end it as a C string
    if packet.startswith((b"\xfe\xff", b"\xff\xfe")) or b"\0" in packet:
        raise _bad("is not UTF-8")
    return packet


def _bad(what: str) -> InputError:
    return InputError("bad_xmp", f"its XMP {what}; nothing was written")
