"""Bodies that are no JSON: raw pixels and pictures of 2 rows and 3 columns."""

import struct
import zlib

import schemathesis
from hypothesis import strategies

PIXELS = 6


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def picture(pixels):
    rows = b"".join(b"\0" + pixels[start : start + 3] for start in (0, 3))
    head = struct.pack(">IIBBBBB", 3, 2, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


pixels = strategies.binary(min_size=PIXELS, max_size=PIXELS)
schemathesis.openapi.media_type("application/octet-stream", pixels)
schemathesis.openapi.media_type("image/png", pixels.map(picture))
