"""Every exception of the project, in one tree.

::

    RabbitproofError
    ├── UsageError                  what was asked for makes no sense
    ├── ConnectionFailed            no connection could be made
    │   ├── BrokerUnreachable         nobody answers there
    │   └── LoginRefused              somebody answers and says no
    ├── ConnectionLost              a connection that worked has ended (worth a reconnect)
    ├── GivenUp                     a lost connection did not come back in time
    ├── ConsumerGone                the broker ended a consumer
    ├── BrokerRefused               the broker closed something and said why
    │   ├── ConnectionClosed          ... the whole connection
    │   └── ChannelClosed             ... one channel
    │       ├── PreconditionFailed      406
    │       ├── NotFound                404
    │       ├── AccessRefused           403
    │       └── ResourceLocked          405
    ├── ProtocolError               bytes or calls that AMQP 0-9-1 does not allow
    │   ├── RemoteProtocolError       ... by the peer
    │   └── LocalProtocolError        ... by us: a bug here
    ├── Overdue                     something did not happen before its deadline
    ├── ManagementError             the Management API did not do what it was asked
    │   ├── ManagementUnreachable
    │   └── SourceMissing             ... and what is asked for can't be known without it
    ├── NodeError                   a private node could not be provided
    │   ├── InstallError              no RabbitMQ here, and it could not be fetched
    │   └── NodeFailed                RabbitMQ is here but the node did not start
    ├── LedgerFailed                a ledger could not be written or read
    │   └── LedgerEmpty               ... it does not even say who wrote it
    ├── ReportFailed                a report could not be written
    ├── ExportBroken                a file is no whole export of messages
    ├── WindowUnavailable           no Tk here, or no display
    └── BenchFailed                 a client that is compared could not be measured

Rules: an error's text is a sentence, and it ends in what to do. A class's docstring is the
text used when none is given. Exit codes are not decided here but in ``cli/exits.py``. A
message loss is not an exception; it is a verdict.
"""

from __future__ import annotations


class RabbitproofError(Exception):
    """Something went wrong; run the command again with what the message says changed."""

    def __init__(self, text: str | None = None) -> None:
        super().__init__(text or " ".join((type(self).__doc__ or "").split()))


class UsageError(RabbitproofError):
    """That combination of options makes no sense; see --help."""


class ConnectionFailed(RabbitproofError):
    """No connection to RabbitMQ could be made; check the address and that the broker runs."""


class BrokerUnreachable(ConnectionFailed):
    """Nobody answers at that address; start a broker with `rabbitproof broker up`."""


class LoginRefused(ConnectionFailed):
    """The broker refused the login; check the user name, the password and the vhost."""


class ConnectionLost(RabbitproofError):
    """The connection to RabbitMQ ended; check that the broker still runs, then try again."""


class GivenUp(RabbitproofError):
    """The connection to RabbitMQ did not come back in time; start the broker, then try again."""


class ConsumerGone(RabbitproofError):
    """The broker ended the consumer; check whether its queue still exists."""


class BrokerRefused(RabbitproofError):
    """The broker refused what it was asked; its own words say why.

    ``code`` is the AMQP reply code (AMQP 0-9-1, section 1.2), ``reply`` the broker's own text.
    """

    def __init__(self, text: str, *, code: int, reply: str) -> None:
        super().__init__(text)
        self.code = code
        self.reply = reply


class ConnectionClosed(BrokerRefused):
    """The broker closed the connection; its own words say why."""


class ChannelClosed(BrokerRefused):
    """The broker closed the channel; its own words say why."""


class PreconditionFailed(ChannelClosed):
    """The broker has that object with other settings (406)."""


class NotFound(ChannelClosed):
    """The broker has no such object (404)."""


class AccessRefused(ChannelClosed):
    """This login may not do that (403)."""


class ResourceLocked(ChannelClosed):
    """Another connection holds that object exclusively (405)."""


class ProtocolError(RabbitproofError):
    """The bytes on the connection are not AMQP 0-9-1; check that the port is RabbitMQ's."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what AMQP 0-9-1 does not allow; check that the port is RabbitMQ's."""


class LocalProtocolError(ProtocolError):
    """This program tried what AMQP 0-9-1 does not allow; please report it as a bug."""


class Overdue(RabbitproofError):
    """The broker did not answer in time; look at its log, then try again."""


class ManagementError(RabbitproofError):
    """The Management API refused; check the login's tags and permissions."""


class ManagementUnreachable(ManagementError):
    """The Management API does not answer; enable the plugin rabbitmq_management."""


class SourceMissing(ManagementError):
    """A source of evidence that this needs is not there."""


class NodeError(RabbitproofError):
    """No private RabbitMQ node could be provided; name a broker with --url instead."""


class InstallError(NodeError):
    """There is no RabbitMQ here and it could not be fetched; install it or name one with --url."""


class NodeFailed(NodeError):
    """The private RabbitMQ node did not start; its log says why."""


class LedgerFailed(RabbitproofError):
    """The ledger could not be written, so nothing more was done; make room and run this again."""


class LedgerEmpty(LedgerFailed):
    """The ledger is empty: its writer ended before anything was recorded; copy it again."""


class ReportFailed(RabbitproofError):
    """The report could not be written; make room or name another folder, and run it again."""


class ExportBroken(RabbitproofError):
    """The file is no whole export of messages; export again."""


class WindowUnavailable(RabbitproofError):
    """No window can be shown here; receive with `rabbitproof consume` instead."""


class BenchFailed(RabbitproofError):
    """A client could not be measured; see what it said, and leave it out with --clients."""
