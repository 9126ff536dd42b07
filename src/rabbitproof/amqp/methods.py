"""The methods that carry a name, for every name that RabbitMQ allows.

The codec checks names against the grammar of AMQP 0-9-1 (section 4.2.5.3 has the types, the
protocol's XML the grammar): 127 characters of a few kinds. RabbitMQ takes 255 bytes of any UTF-8,
so a queue named ``größe`` or ``a|b`` exists and has to be reachable. These classes are the
codec's own without that check.

Refuses to know which of them is legal when (``session``).
"""

from __future__ import annotations

from pamqp import commands


class _AnyName:
    def validate(self) -> None:
        """Leave it to the broker, which says what it does not like."""


class ConnectionOpen(_AnyName, commands.Connection.Open):
    """Asks for a vhost."""


class ExchangeDeclare(_AnyName, commands.Exchange.Declare):
    """Creates an exchange, or asks whether it is there."""


class QueueDeclare(_AnyName, commands.Queue.Declare):
    """Creates a queue, or asks whether it is there."""


class QueueBind(_AnyName, commands.Queue.Bind):
    """Binds a queue to an exchange."""


class QueuePurge(_AnyName, commands.Queue.Purge):
    """Empties a queue."""


class QueueDelete(_AnyName, commands.Queue.Delete):
    """Deletes a queue."""


class BasicConsume(_AnyName, commands.Basic.Consume):
    """Asks for a queue's messages."""
