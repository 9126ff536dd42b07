"""What a message says, for people to read. Never fails, whatever is in it.

Refuses to make it safe to show (``text``, ``cli``, ``view``): what comes back is as it came.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.amqp.session import decode_header
from rabbitproof.model import Sample

if TYPE_CHECKING:
    from rabbitproof.amqp.deliveries import Delivery

_LONGEST_PARSED: Final = 32 << 20
"""Bytes. A larger body is not parsed only to show one line of it: 0.1 s for this size."""


def sample(number: int, message_id: bytes | str, body: bytes, sender: str = "") -> Sample:
    """Return what one line about a message shows."""
    if isinstance(message_id, bytes):
        message_id = message_id.decode("utf-8", "replace")
    content = _parse(body)
    if not isinstance(content, dict):
        text = body[:400].decode("utf-8", "backslashreplace")
        return Sample(number, message_id, sender or "?", "?", text)
    return Sample(
        number,
        message_id,
        sender or str(content.get("sent_by", "?")),
        str(content.get("n", "?")),
        str(content.get("text", "")),
    )


def foreign_sample(number: int, delivery: Delivery) -> Sample:
    """Return the same for a message that this tool may not have sent."""
    properties = decode_header(delivery.header)
    message_id, sender = "?", ""
    if properties is not None:
        message_id = str(properties.message_id or "?")
        headers = properties.headers or {}
        sender = str(headers.get("producer_id", "") or properties.app_id or "")
    return sample(number, message_id, delivery.body, sender)


def _parse(body: bytes) -> Any:
    if len(body) > _LONGEST_PARSED:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
