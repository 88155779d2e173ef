"""H.264 and H.265 as a plain stream of units, each behind a start code (Annex B of both standards).

Cameras send packets in this form. Files hold another: each unit behind its length, and the headers
apart, in a record of their own (ISO/IEC 14496-15: ``avcC`` and ``hvcC``).
"""

import struct
from collections.abc import Iterator

START = b"\x00\x00\x00\x01"


def is_record(extradata: bytes) -> bool:
    """Whether a stream's headers come as such a record; its packets then hold lengths."""
    return extradata[:1] == b"\x01"


def headers(codec: str, extradata: bytes) -> bytes:
    """The parameter sets in ``extradata`` behind start codes; empty where it has none."""
    if not is_record(extradata):
        return extradata
    units = _hvcc(extradata) if codec == "hevc" else _avcc(extradata)
    return b"".join(START + unit for unit in units)


def plain(data: bytes, extradata: bytes) -> bytes:
    """A packet with start codes; one that has them already is returned as it is."""
    if not is_record(extradata):
        return data
    length = _length_size(extradata)
    parts, at = [], 0
    while at + length <= len(data):
        size = int.from_bytes(data[at : at + length], "big")
        at += length
        parts.append(START + data[at : at + size])
        at += size
    return b"".join(parts)


def _length_size(extradata: bytes) -> int:
    # avcC has it in its fifth byte; hvcC is longer, and has it in its 22nd.
    at = 21 if _is_hvcc(extradata) else 4
    return (extradata[at] & 3) + 1


def _is_hvcc(extradata: bytes) -> bool:
    # In avcC the sixth byte begins with three set bits; in hvcC it is a part of constraint flags,
    # and byte 13 begins with four set bits (min_spatial_segmentation_idc).
    return len(extradata) > 22 and extradata[13] >> 4 == 15 and extradata[5] >> 5 != 7


def _avcc(record: bytes) -> Iterator[bytes]:
    at = 5
    for mask in (31, 255):  # sequence parameter sets, then picture parameter sets
        if at >= len(record):
            return
        count = record[at] & mask
        at += 1
        for _ in range(count):
            (size,) = struct.unpack_from(">H", record, at)
            yield record[at + 2 : at + 2 + size]
            at += 2 + size


def _hvcc(record: bytes) -> Iterator[bytes]:
    at = 23
    for _ in range(record[22] if len(record) > 22 else 0):
        (count,) = struct.unpack_from(">H", record, at + 1)
        at += 3
        for _ in range(count):
            (size,) = struct.unpack_from(">H", record, at)
            yield record[at + 2 : at + 2 + size]
            at += 2 + size
