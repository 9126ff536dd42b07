"""A message that is sent again as it came: its frames, with nothing decoded in between.

Pure. The hot path of a producer is ``publishes``; here every message may be another.
"""

from __future__ import annotations

import struct

from rabbitproof.amqp.publishes import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD

_PUBLISH = bytes.fromhex("003c00280000")  # class 60, method 40, reserved (section 1.8.3.7)
_MANDATORY = b"\x01"
_HEAD = struct.Struct(">BHI")
_CONTENT = struct.Struct(">BHIHHQ")


def copy_frames(
    channel: int,
    exchange: bytes,
    routing_key: bytes,
    properties: bytes,
    body: bytes,
    frame_max: int,
) -> bytes:
    """Return a mandatory publish; ``properties`` are encoded, from their flags on.

    ``frame_max`` is bytes a frame may have, 0 for no limit.
    """
    size = len(body)
    parts = [
        _HEAD.pack(FRAME_METHOD, channel, 9 + len(exchange) + len(routing_key)),
        _PUBLISH,
        bytes((len(exchange),)),
        exchange,
        bytes((len(routing_key),)),
        routing_key,
        _MANDATORY,
        FRAME_END,
        _CONTENT.pack(FRAME_HEADER, channel, 12 + len(properties), 60, 0, size),
        properties,
        FRAME_END,
    ]
    most = frame_max - 8 if frame_max else max(size, 1)
    for start in range(0, size, most):
        piece = body[start : start + most] if size > most else body
        parts += (_HEAD.pack(FRAME_BODY, channel, len(piece)), piece, FRAME_END)
    return b"".join(parts)
