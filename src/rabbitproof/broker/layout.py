"""The files and the environment of one private node.

Holds: what is written into a node's directory before it starts, which environment the server and
its commands get, and the reduced server folder that halves the boot.
Refuses to hold: processes and sockets (``node.py``).

Rules
-----
- Nothing of a system broker is read: every configuration file RabbitMQ would look for is named,
  and the environment is built from an allow-list, because RabbitMQ's scripts also obey
  variables without a prefix (``NODENAME``, ``SERVER_ERL_ARGS`` …).
- Everything listens on 127.0.0.1: AMQP, management, metrics, Erlang distribution and epmd.
- Directories are 0700; the cookie is 0400 and random; the file with the login is 0600.
- No secret is in an environment or on a command line, where others could read it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from rabbitproof.broker import watchdog
from rabbitproof.broker.install import Installation, version_key
from rabbitproof.errors import UsageError
from rabbitproof.process import Process

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PLUGINS = ("rabbitmq_management", "rabbitmq_prometheus")
"""Switched on in every node."""

_STATE = "state.json"

_KEPT_VARIABLES = frozenset(
    {
        *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP"),
        *("SYSTEMROOT", "COMSPEC", "PATHEXT", "PROGRAMFILES"),  # what Windows needs
    }
)
"""The only variables of ours that the server sees."""

DISK_LIMIT = 50_000_000
"""Bytes that have to be free on the disk; with fewer, a node stops publishers."""
_GIB = 1024**3

_SAFE_LOGIN = re.compile(r"[A-Za-z0-9._~-]+")
"""What needs no quoting in rabbitmq.conf, in a URL and in a shell."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for a TLS listener: the authority, the server's certificate and its key."""

    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports of one node, all on 127.0.0.1; ``tls`` is 0 when there is no TLS listener."""

    amqp: int
    management: int
    prometheus: int
    distribution: int
    epmd: int
    tls: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same when a node is started again on its data."""

    name: str
    username: str
    password: str

    @classmethod
    def new(
        cls, mark: str, username: str | None, password: str | None, number: int | None = None
    ) -> Identity:
        """Return a new node's identity, with a random login where none is given.

        ``number``: which node of its cluster it is.
        """
        which = "" if number is None else f"{number}-"
        login = cls(
            name=f"rabbitproof-{which}{mark[:12]}@localhost",
            username=username or f"rp-{secrets.token_hex(4)}",
            password=password or secrets.token_hex(16),
        )
        if not (_SAFE_LOGIN.fullmatch(login.username) and _SAFE_LOGIN.fullmatch(login.password)):
            raise UsageError(
                "A private node's login may hold only letters, digits and . _ ~ -;"
                " choose another user name or password."
            )
        return login


@dataclass(frozen=True, slots=True)
class Membership:
    """What the nodes of one cluster share; a node alone has none."""

    names: tuple[str, ...]
    """Of all nodes, as Erlang knows them."""
    cookie: str
    """With which they let each other in; kept where a node has one already."""


NET_TICK_S = 5
"""After so many seconds of silence (give or take a quarter) a node counts as down. RabbitMQ's own
tests use 5; its default of 60 is for networks that stall. Less than 4 would call a busy machine a
broken one."""

ATEN_POLL_MS = 1000
"""How often quorum queues and streams look whether the other nodes live. RabbitMQ's default of
5000 makes the election of a new leader wait for as long."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one node keeps what; every path is below ``directory``."""

    installation: Installation
    directory: Path
    identity: Identity
    ports: Ports
    mark: str
    membership: Membership | None = None

    @property
    def _nodes(self) -> int:
        return len(self.membership.names) if self.membership else 1

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.directory / "log" / "rabbit.log"

    @property
    def output(self) -> Path:
        """What the server writes to its standard output: failures before the log is open."""
        return self.directory / "log" / "output"

    @property
    def tools(self) -> Path:
        """A folder with commands (``rabbitmqctl`` …) that work on this node."""
        return self.directory / "bin"

    @property
    def _home(self) -> Path:
        return self.directory / "home"

    @property
    def _server(self) -> Path:
        return self.directory / "server"

    def server_command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        return [str(self._tool("rabbitmq-server"))]

    def tool_command(self, tool: str, arguments: Iterable[str]) -> list[str]:
        """Return the command line of one of RabbitMQ's commands on this node."""
        return [str(self._tool(tool)), *arguments]

    def environment(self) -> dict[str, str]:
        """Return the whole environment of the server and of its commands."""
        path = os.environ.get("PATH", os.defpath)
        kept = {name: text for name, text in os.environ.items() if name.upper() in _KEPT_VARIABLES}
        directory = self.directory
        ours = {
            "HOME": str(self._home),
            "LANG": kept.get("LANG", "C.UTF-8"),
            "ERL_EPMD_PORT": str(self.ports.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_INETRC": str(directory / "inetrc"),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": self.identity.name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.ports.amqp),
            "RABBITMQ_DIST_PORT": str(self.ports.distribution),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.log.parent),
            "RABBITMQ_LOGS": str(self.log),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(directory / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # Port 0: any free one. A command must not start an epmd that would outlive it.
            "RABBITMQ_CTL_DIST_PORT_MIN": "0",
            "RABBITMQ_CTL_DIST_PORT_MAX": "0",
            "RABBITMQ_CTL_ERL_ARGS": (
                "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
            ),
            # The script then becomes the server instead of waiting for it: one process, one pid.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        if self.membership is not None:
            # For the commands as well: they are nodes, too, and have to be heard as often.
            for name in ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "RABBITMQ_CTL_ERL_ARGS"):
                ours[name] += f" -kernel net_ticktime {NET_TICK_S}"
        if self.installation.erlang_root:
            ours["ERL_ROOTDIR"] = str(self.installation.erlang_root)
            ours["ERLANG_HOME"] = str(self.installation.erlang_root)
            path = os.pathsep.join((str(self.installation.erlang_root / "bin"), path))
        if self._server.is_dir():
            ours["RABBITMQ_SCRIPTS_DIR"] = str(self._server / "sbin")
        if os.name == "nt":
            ours |= {"RABBITMQ_BASE": str(directory), "USERPROFILE": str(self._home)}
            ours |= {"HOMEDRIVE": self._home.drive, "HOMEPATH": str(self._home)[2:]}
        return {**kept, **ours, "PATH": path}

    def write(self, settings: Mapping[str, str], tls: TlsFiles | None) -> None:
        """Write everything the server needs; keep the data and the cookie that are there."""
        for name in ("home", "data", "log", "conf.d", "bin"):
            (self.directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        cookie = self._home / ".erlang.cookie"
        if not cookie.exists():
            known = self.membership.cookie if self.membership else secrets.token_hex(20)
            _write(cookie, known, mode=0o400)
        _write(self.directory / "rabbitmq.conf", self._configuration(settings, tls))
        _write(self.directory / "enabled_plugins", f"[{','.join(PLUGINS)}].\n")
        _write(self.directory / "advanced.config", self._advanced())
        _write(self.directory / "rabbitmq-env.conf", "")
        # The node's name ends in @localhost, and not every machine can resolve that.
        _write(
            self.directory / "inetrc",
            '{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n',
        )
        if os.name == "posix":
            shutil.rmtree(self._server, ignore_errors=True)  # perhaps of another version
            reduce_server(self.installation.home, self._server)
            for tool in sorted((self.installation.home / "sbin").glob("rabbitmq*")):
                if tool.name not in {"rabbitmq-server", "rabbitmq-env", "rabbitmq-defaults"}:
                    _write(self.tools / tool.name, self._wrapper(tool.name), mode=0o700)

    def _tool(self, name: str) -> Path:
        reduced = self._server / "sbin" / name
        return reduced if reduced.exists() else self.installation.tool(name)

    def _wrapper(self, tool: str) -> str:
        """Return a script that runs ``tool`` on this node from any shell."""
        variables = sorted(self.environment().items())
        assignments = " \\\n  ".join(f"{name}={shlex.quote(text)}" for name, text in variables)
        command = f'{shlex.quote(str(self._tool(tool)))} "$@"'
        return f'#!/bin/sh\nexec env -i TERM="$TERM" \\\n  {assignments} \\\n  {command}\n'

    @property
    def memory_limit(self) -> int:
        """Bytes above which the node stops publishers, unless its settings say otherwise."""
        return memory_watermark() // self._nodes

    def _configuration(self, settings: Mapping[str, str], tls: TlsFiles | None) -> str:
        ports = self.ports
        lines = {
            "listeners.tcp.1": f"127.0.0.1:{ports.amqp}",
            "management.tcp.ip": "127.0.0.1",
            "management.tcp.port": str(ports.management),
            "prometheus.tcp.ip": "127.0.0.1",
            "prometheus.tcp.port": str(ports.prometheus),
            "default_user": self.identity.username,
            "default_pass": self.identity.password,
            "log.console": "false",
            "log.file.level": "info",
            "vm_memory_high_watermark.absolute": str(self.memory_limit),
            "disk_free_limit.absolute": str(DISK_LIMIT),
        }
        if tls is not None:
            lines |= {
                "listeners.ssl.1": f"127.0.0.1:{ports.tls}",
                "ssl_options.cacertfile": str(tls.ca.resolve()),
                "ssl_options.certfile": str(tls.cert.resolve()),
                "ssl_options.keyfile": str(tls.key.resolve()),
                "ssl_options.verify": "verify_none",
                "ssl_options.fail_if_no_peer_cert": "false",
            }
        if version_key(self.installation.version) >= (3, 13):
            # The queues that this program makes unless told otherwise. 4.3.6 permits them by
            # default; RabbitMQ says that a release will come which does not.
            lines["deprecated_features.permit.transient_nonexcl_queues"] = "true"
        lines |= self._cluster_configuration()
        lines |= settings
        for name, text in lines.items():
            if "\n" in name + text:
                raise UsageError(f"The setting {name.split()[0]!r} holds a line break; remove it.")
        return "".join(f"{name} = {text}\n" for name, text in lines.items())

    def _cluster_configuration(self) -> dict[str, str]:
        if self.membership is None:
            return {}
        names = self.membership.names
        return {
            **{
                f"cluster_formation.classic_config.nodes.{number}": name
                for number, name in enumerate(names, start=1)
            },
            "cluster_formation.target_cluster_size_hint": str(len(names)),
            **self._discovery(),
            # The side that is in the minority must not go on with its own idea of what exists. 4.3
            # knows only the name of the setting: metadata in Khepri need a majority anyway.
            "cluster_partition_handling": "pause_minority",
            # Each queue's leader on the node that has the fewest, not all on one.
            "queue_leader_locator": "balanced",
        }

    def _discovery(self) -> dict[str, str]:
        """Return how long a node looks for others that it could join.

        Up to 3.13 the first of them holds a lock meanwhile, and looks in vain: the others wait for
        that lock and join it afterwards. From 4.0 on all agree on one, and wait until it is ready.
        """
        if version_key(self.installation.version) >= (4,):
            return {}
        return {
            "cluster_formation.discovery_retry_interval": "100",
            "cluster_formation.discovery_retry_limit": "1",
        }

    def _advanced(self) -> str:
        if self.membership is None:
            return "[].\n"
        return f"[{{aten, [{{poll_interval, {ATEN_POLL_MS}}}]}}].\n"


def memory_watermark() -> int:
    """Return at how many bytes a node stops publishers: 40 % of the memory, at most 2 GiB.

    The nodes of a cluster share that.

    An absolute number, because RabbitMQ's own default takes 40 % of a machine that it shares.
    A container's limit counts where there is one (cgroup v2).
    """
    total: int = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(2 * _GIB, total * 2 // 5)


def reduce_server(home: Path, target: Path) -> None:
    """Make ``target`` a server folder of links, with only the plugins a node here can use.

    At boot, and again in every command, RabbitMQ reads all modules of everything in its plugins
    folder. Without the plugins that stay off, a boot takes half as long. Libraries all stay, as
    does every plugin that an enabled one needs. Where the folder is not understood (archives
    instead of folders), nothing is made and the server's own is used.
    """
    needs = _needs(home / "plugins")
    if needs is None or target.exists():
        return
    wanted: set[str] = set()
    pending = ["rabbit", "rabbitmq_prelaunch", *PLUGINS]
    while pending:
        application = pending.pop()
        if application not in wanted:
            wanted.add(application)
            pending.extend(needs.get(application, (Path(), ()))[1])
    for name in ("sbin", "plugins"):
        (target / name).mkdir(mode=0o700, parents=True)
    for application, (folder, applications) in needs.items():
        is_plugin = "rabbit" in applications or "rabbit_common" in applications
        if application in wanted or not is_plugin:
            (target / "plugins" / folder.name).symlink_to(folder)
    for script in (home / "sbin").iterdir():
        (target / "sbin" / script.name).symlink_to(script)
    for entry in home.iterdir():
        if entry.name not in {"sbin", "plugins"}:
            (target / entry.name).symlink_to(entry)


def _needs(plugins: Path) -> dict[str, tuple[Path, tuple[str, ...]]] | None:
    """Return each application's folder and the applications it needs; None if not readable."""
    needs = {}
    for folder in plugins.iterdir():
        if folder.suffix == ".ez":
            return None
        for file in folder.glob("ebin/*.app"):
            text = re.sub(r"%.*", "", file.read_text(encoding="utf-8", errors="replace"))
            lists = re.findall(
                r"\{\s*(?:included_|optional_)?applications\s*,\s*\[([^\]]*)\]", text
            )
            names = tuple(re.findall(r"\w+", " ".join(lists)))
            needs[file.stem] = (folder.resolve(), names)
    return needs if "rabbit" in needs and all(name in needs for name in PLUGINS) else None


def _write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file whole, with its mode from the first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8"
    ) as file:
        file.write(text)


@dataclass(frozen=True, slots=True)
class State:
    """What a node that outlives its command leaves behind, to be found again."""

    version: str
    home: str
    erlang_root: str | None
    origin: str
    mark: str
    identity: Identity
    ports: Ports
    process: Process | None
    """Its Erlang VM; None where it can't be told from another."""
    names: tuple[str, ...] = ()
    """Of all nodes of its cluster, if it is in one."""

    def write(self, directory: Path) -> None:
        """Write it whole or not at all; it holds the login, so only this user can read it."""
        whole = directory / f"{_STATE}.part"
        _write(whole, json.dumps(asdict(self)))
        whole.replace(directory / _STATE)

    @classmethod
    def read(cls, directory: Path) -> State | None:
        """Return the state in ``directory``, or None when there is none to be understood."""
        try:
            fields = json.loads((directory / _STATE).read_text(encoding="utf-8"))
            identity, ports = Identity(**fields.pop("identity")), Ports(**fields.pop("ports"))
            older = [fields.pop(name, None) for name in ("pid", "libraries", "started")]
            process = Process.read(fields.pop("process", None))
            if process is None and older[0] in watchdog.marked(str(fields["mark"])):
                process = Process.of(older[0])  # an older version of this program started it
            names = tuple(map(str, fields.pop("names", ())))
            return cls(identity=identity, ports=ports, process=process, names=names, **fields)
        except (OSError, ValueError, KeyError, TypeError):
            return None
