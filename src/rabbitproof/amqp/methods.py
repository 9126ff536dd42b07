"""The methods that carry a name, without the codec's opinion about names.

AMQP 0-9-1 (section 1.1) restricts names to some letters, and pamqp refuses others before
anything is sent. RabbitMQ takes any UTF-8 of up to 255 bytes, and people use it. A name that
RabbitMQ lets exist has to be usable here, however odd, so these classes leave the decision to
the broker. Lengths are checked where a name enters the program.
"""

from __future__ import annotations

from typing import TypeVar

from pamqp import commands
from pamqp.base import Frame

_Method = TypeVar("_Method", bound=Frame)


def _accepting_any_name(kind: type[_Method]) -> type[_Method]:
    """Return the same method without the validation that looks at letters."""
    return type(kind.__name__, (kind,), {"validate": lambda _: None, "__doc__": kind.__doc__})


ConnectionOpen = _accepting_any_name(commands.Connection.Open)
ExchangeDeclare = _accepting_any_name(commands.Exchange.Declare)
ExchangeDelete = _accepting_any_name(commands.Exchange.Delete)
QueueDeclare = _accepting_any_name(commands.Queue.Declare)
QueueBind = _accepting_any_name(commands.Queue.Bind)
QueuePurge = _accepting_any_name(commands.Queue.Purge)
QueueDelete = _accepting_any_name(commands.Queue.Delete)
BasicPublish = _accepting_any_name(commands.Basic.Publish)
QueueUnbind = _accepting_any_name(commands.Queue.Unbind)
BasicConsume = _accepting_any_name(commands.Basic.Consume)

CLOSE = commands.Channel.Close(200, "done", 0, 0)
"""Closes a channel that is done with."""
