"""One private, unprivileged RabbitMQ node: start, stop, kill, pause, start again.

Holds: the lifetime of the node's processes.
Refuses to hold: what is written into its directory (``layout.py``), which ports it gets
(``ports.py``), when it is ready (``readiness.py``), where RabbitMQ comes from (``install.py``),
and what happens when its owner dies (``watchdog.py``).

Rules
-----
- Nothing is left behind: no process, no epmd, no directory, whatever ends the owner.
- A system broker is never touched; see ``layout.py``.
- Every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import time
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rabbitproof.broker import lease, ports, readiness, script, watchdog
from rabbitproof.broker.install import Installation, cache_folder, check_path
from rabbitproof.broker.layout import Identity, Layout, Membership, State, TlsFiles
from rabbitproof.errors import NodeFailed
from rabbitproof.process import Process
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_POLL_S = 0.03
"""Between two looks at a node that ends."""

_STOP_S = 20.0
"""For a node to end by itself; RabbitMQ flushes its queues meanwhile."""

_PORT_TRIES = 4
"""Free ports are found by trying; somebody else can be faster."""


class Node:
    """One private node, owned by this process unless it was started with ``owned=False``.

    Use it as a context manager, or call ``stop``. A node whose owner ends without that is ended
    by its watchdog within about a second.
    """

    def __init__(self, layout: Layout, *, owned: bool) -> None:
        self._layout = layout
        self._owned = owned
        self._process: Process | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._created = False
        self._lease = cache_folder() / "nodes" / f"{layout.mark}.json"
        self.version = layout.installation.version
        self.username = layout.identity.username
        self.password = layout.identity.password
        self.directory = layout.directory
        login = f"{self.username}:{self.password}@{ports.LOOPBACK}"
        self.url = f"amqp://{login}:{layout.ports.amqp}/"
        self.tls_url = f"amqps://{login}:{layout.ports.tls}/" if layout.ports.tls else None
        self.management_url = f"http://{ports.LOOPBACK}:{layout.ports.management}"
        self.prometheus_url = f"http://{ports.LOOPBACK}:{layout.ports.prometheus}"

    @classmethod
    def start(
        cls,
        installation: Installation,
        *,
        directory: Path | None = None,
        amqp_port: int = 0,
        management_port: int = 0,
        username: str | None = None,
        password: str | None = None,
        owned: bool = True,
        settings: Mapping[str, str] | None = None,
        tls: TlsFiles | None = None,
        deadline_s: float = 60.0,
    ) -> Node:
        """Start a node and return it when it is ready.

        Port 0 means any free port. ``settings`` are further lines of rabbitmq.conf. An owned
        node's directory is removed when it stops; one with ``owned=False`` outlives this process
        and keeps its data in ``directory``. Raise NodeFailed with the broker's own error lines;
        nothing is left behind then, except data that was there before.
        """
        folder = cache_folder()
        lease.collect(folder / "nodes")
        for attempt in range(1, _PORT_TRIES + 1):
            chosen = ports.choose(amqp_port, management_port, tls=tls is not None)
            mark = secrets.token_hex(16)
            place = check_path(directory.absolute() if directory else folder / "nodes" / mark)
            known = State.read(place)
            identity = known.identity if known else Identity.new(mark, username, password)
            node = cls(Layout(installation, place, identity, chosen, mark), owned=owned)
            try:
                node.launch(settings or {}, tls=tls, deadline_s=deadline_s)
            except NodeFailed:
                taken = [port for port in astuple(chosen) if port and not ports.is_free(port)]
                if not taken or attempt == _PORT_TRIES:
                    raise
            else:
                return node
        raise NodeFailed  # not reached: the last attempt raises or returns

    @classmethod
    def attach(cls, directory: Path) -> Node | None:
        """Return the node that an earlier ``start(owned=False)`` left running, or None."""
        node = cls.known(directory)
        return None if node is None or node.pid is None else node

    @classmethod
    def known(cls, directory: Path) -> Node | None:
        """Return the node of an earlier ``start(owned=False)``, whether or not it still runs."""
        state = State.read(directory)
        if state is None:
            return None
        installation = Installation(
            Path(state.home),
            Path(state.erlang_root) if state.erlang_root else None,
            state.version,
            "fetched" if state.origin == "fetched" else "installed",
        )
        node = cls(
            Layout(
                installation,
                directory,
                state.identity,
                state.ports,
                state.mark,
                Membership(state.names, "") if state.names else None,
            ),
            owned=False,
        )
        node._process = state.process
        return node

    @property
    def pid(self) -> int | None:
        """The pid of the Erlang VM, or None while the node is down."""
        alive = self._process is not None and self._process.life() == "lives"
        return self._process.pid if self._process and alive else None

    @property
    def unseen(self) -> bool:
        """Whether it can't be told from here if it runs: it was started elsewhere."""
        return self._process is not None and self._process.life() == "unknown"

    @property
    def paused(self) -> bool:
        """Whether the Erlang VM is there and was stopped with SIGSTOP."""
        return self.pid is not None and self._process is not None and self._process.is_still()

    @property
    def port(self) -> int:
        """Where AMQP is spoken, on 127.0.0.1."""
        return self._layout.ports.amqp

    @property
    def name(self) -> str:
        """The node's name, as Erlang and the Management API know it."""
        return self._layout.identity.name

    @property
    def release(self) -> str:
        """The version that its data are of."""
        return self._layout.installation.version

    @property
    def home(self) -> Path:
        """The folder of the server that it runs."""
        return self._layout.installation.home

    @property
    def memory_limit(self) -> int:
        """Bytes of memory above which it stops publishers."""
        return self._layout.memory_limit

    @property
    def mark(self) -> str:
        """What every process of this node carries in its environment as ``RABBITPROOF_NODE``."""
        return self._layout.mark

    @property
    def tools(self) -> Path:
        """A folder with RabbitMQ's commands (``rabbitmqctl`` …) that work on this node."""
        return self._layout.tools

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, *, gracefully: bool | None = None, deadline_s: float = _STOP_S) -> None:
        """End the node and all its processes; an owned one leaves no trace.

        An owned node is killed, because its data are thrown away and RabbitMQ takes 6 s to end
        by itself (measured, 3.10.8, idle). One whose data stay is asked first and killed at the
        deadline. ``gracefully`` overrides that.
        """
        try:
            if not self._owned if gracefully is None else gracefully:
                self._signal(getattr(signal, "SIGCONT", None))  # paused, it would hear nothing
                self._signal(signal.SIGTERM)
                self._wait_gone(deadline_s)
        finally:
            self._clean_up()

    def give_up(self) -> None:
        """End its processes at once, so that whoever waits for it elsewhere fails; see ``stop``."""
        watchdog.end_processes(self._layout.mark)

    def kill(self) -> None:
        """Kill the Erlang VM at once, as a power cut of the process; the data stay."""
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        if not self._wait_gone(_STOP_S):
            raise NodeFailed(f"The node with pid {self.pid} outlived SIGKILL; end it by hand.")

    def shut_down(self) -> None:
        """End the Erlang VM in good order, which flushes its queues; the data stay."""
        self._signal(getattr(signal, "SIGCONT", None))  # paused, it would hear nothing
        self._signal(signal.SIGTERM)
        if not self._wait_gone(2 * _STOP_S):
            raise NodeFailed(
                f"The node with pid {self.pid} did not end within {2 * _STOP_S:.0f} s; look at "
                f"{self._layout.log}."
            )

    def settle(self) -> None:
        """Have the broker write what was declared so far to its disk; takes about 0.4 s.

        RabbitMQ up to 4.2 confirms a declaration while it may still be in Mnesia's buffer: a node
        killed within about 2 s forgets a durable queue with all its confirmed messages (measured,
        3.10.8, one kill in six). Khepri forgets none. Which quorum queues a node has stands in a
        table of its own that is written after a moment, in every release: killed before, the queue
        has no process (3.10.8, 4.0.5), or a new and empty one (4.3.6, also of confirmed messages).
        """
        self.ctl("eval", "catch mnesia:sync_log(), [catch dets:sync(T) || T <- dets:all()].")

    def pause(self) -> None:
        """Stop the Erlang VM with SIGSTOP: connections stay open and nothing answers.

        Return when it has stopped. On a busy machine a thread of it takes a while to notice, and
        answers meanwhile.
        """
        self._signal(_posix_signal("SIGSTOP"))
        until = time.monotonic() + _STOP_S
        while self._process and not self._process.is_still():
            if time.monotonic() > until:
                raise NodeFailed(f"The node with pid {self.pid} did not stop; end it by hand.")
            time.sleep(_POLL_S)

    def resume(self) -> None:
        """Let a paused node go on."""
        self._signal(_posix_signal("SIGCONT"))

    def start_again(self, *, deadline_s: float = 60.0) -> None:
        """Start a killed node again: same ports, same data, same name, same login."""
        if self.pid is not None:
            raise NodeFailed(f"The node runs already (pid {self.pid}); kill it first.")
        if self._watchdog is None:
            self._start_watchdog()
        try:
            self._boot(deadline_s)
        except BaseException:
            self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
            raise
        if not self._owned:
            self._let_go()

    def ctl(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run rabbitmqctl on this node and return what it printed."""
        try:
            done = subprocess.run(  # noqa: S603 - RabbitMQ's own command, no shell
                self._layout.tool_command("rabbitmqctl", arguments),
                env=self._marked_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NodeFailed(
                f"`rabbitmqctl {arguments[0]}` did not answer within {timeout:.0f} s; look at"
                f" {self._layout.log}."
            ) from error
        if done.returncode != 0:
            said = " ".join((done.stderr.strip() or done.stdout.strip()).split())
            raise NodeFailed(f"`rabbitmqctl {arguments[0]}` failed: {safe(said, 600)}")
        return done.stdout

    def ctl_here(self, arguments: Iterable[str]) -> int:
        """Run rabbitmqctl on this node with our own input and output; return its exit status."""
        return subprocess.run(  # noqa: S603 - RabbitMQ's own command, no shell
            self._layout.tool_command("rabbitmqctl", arguments),
            env=self._marked_environment(),
            check=False,
        ).returncode

    def environment(self) -> dict[str, str]:
        """Return the whole environment in which RabbitMQ's own commands work on this node."""
        return self._layout.environment()

    def log_tail(self, n: int) -> list[str]:
        """Return the last ``n`` lines of the node's log, made safe to show."""
        return readiness.log_tail(self._layout.log, n)

    def launch(
        self,
        settings: Mapping[str, str],
        *,
        tls: TlsFiles | None = None,
        deadline_s: float = 60.0,
    ) -> None:
        """Do everything from nothing to ready; undo all of it when it fails.

        ``start`` does this, and ``Cluster.start`` for several nodes at once.
        """
        self._created = not self.directory.exists()
        try:
            try:
                self._start_watchdog()
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._layout.write(settings, tls)
            except OSError as error:
                raise NodeFailed(
                    f"The node's files could not be written to {self.directory}"
                    f" ({error.strerror or error}); make room there or name another folder with"
                    " RABBITPROOF_CACHE."
                ) from error
            self._boot(deadline_s)
            if not self._owned:
                self._let_go()
        except BaseException:
            self._clean_up(failed=True)
            raise

    def _boot(self, deadline_s: float) -> None:
        until = time.monotonic() + deadline_s
        logs = readiness.Logs.from_now_on(self._layout.output, self._layout.log)
        pid = self._spawn(until)
        if pid is None:  # somebody killed the watchdog, perhaps this very moment
            self._dismiss("end")
            watchdog.end_processes(self._layout.mark)
            self._start_watchdog()
            pid = self._spawn(until)
        if pid is None:
            raise NodeFailed("The node's watchdog ended twice; find out what kills processes here.")
        with contextlib.suppress(ProcessLookupError):  # it may have ended already; see below
            self._process = Process.of(pid)

        def ended(timeout_s: float) -> str | None:
            reply = self._reply(timeout_s)
            if reply.get("ended") == pid or "gone" in reply:
                return str(reply.get("status", "unknown"))
            return None

        self.version = readiness.wait(self._layout, logs, ended, until=until, deadline_s=deadline_s)

    def _spawn(self, until: float) -> int | None:
        """Have the server started and return its pid; None when there is no watchdog to do it."""
        self._order(
            "spawn",
            argv=self._layout.server_command(),
            env=self._marked_environment(),
            cwd=str(self.directory),
            out=str(self._layout.output),
        )
        while True:  # the end of an earlier one may be reported first
            reply = self._reply(until - time.monotonic())
            if "started" in reply:
                return int(reply["started"])
            if "gone" in reply:
                return None
            if "ended" not in reply:
                raise NodeFailed(
                    f"RabbitMQ could not be started ({safe(str(reply.get('error', 'no answer')))});"
                    f" check the installation in {self._layout.installation.home}."
                )

    def _signal(self, number: int | None) -> None:
        if (pid := self.pid) is not None and number is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _wait_gone(self, deadline_s: float) -> bool:
        until = time.monotonic() + deadline_s
        while self.pid is not None:
            if time.monotonic() > until:
                return False
            time.sleep(_POLL_S)
        return True

    def _marked_environment(self) -> dict[str, str]:
        return {**self._layout.environment(), watchdog.MARK: self._layout.mark}

    def _start_watchdog(self) -> None:
        """Start the watchdog before there is anything it would have to remove."""
        leftovers: list[Path] = []
        if self._owned or self._created:
            leftovers = self._traces()
        self._watchdog, self._replies = script.start(
            "watchdog", self._layout.mark, str(os.getpid()), *map(str, leftovers)
        )
        if self._owned:
            self._lease.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lease.Lease(
                mark=self._layout.mark,
                owner=Process.of(),
                watchdog=Process.of(self._watchdog.pid),
            ).write(self._lease)

    def _traces(self) -> list[Path]:
        """Return what there may be of an owned node on the disk."""
        return [self.directory, self._lease, lease.unfinished(self._lease)]

    def _let_go(self) -> None:
        """Let the node outlive us: write down how to find it, then send the watchdog away."""
        if self._process is None:
            raise NodeFailed
        installation = self._layout.installation
        State(
            version=self.version,
            home=str(installation.home),
            erlang_root=str(installation.erlang_root) if installation.erlang_root else None,
            origin=installation.origin,
            mark=self._layout.mark,
            identity=self._layout.identity,
            ports=self._layout.ports,
            process=self._process,
            names=self._layout.membership.names if self._layout.membership else (),
        ).write(self.directory)
        self._dismiss("release")

    def _clean_up(self, *, failed: bool = False) -> None:
        """Leave nothing: first the watchdog's way, then, should it be gone, our own."""
        self._dismiss("end")
        watchdog.end_processes(self._layout.mark)
        if self._owned or (failed and self._created):
            for path in self._traces():
                watchdog.remove(path)
        self._process = None

    def _dismiss(self, order: str) -> None:
        dog, self._watchdog = self._watchdog, None
        if dog is None or dog.stdin is None:
            return
        with contextlib.suppress(OSError):
            dog.stdin.write(json.dumps({"do": order}).encode() + b"\n")
            dog.stdin.close()
        try:
            dog.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            dog.kill()
            dog.wait()

    def _order(self, order: str, **details: object) -> None:
        if self._watchdog is not None and self._watchdog.stdin is not None:
            with contextlib.suppress(OSError):  # gone: the missing reply says so
                self._watchdog.stdin.write(json.dumps({"do": order, **details}).encode() + b"\n")
                self._watchdog.stdin.flush()

    def _reply(self, timeout_s: float) -> dict[str, Any]:
        """Return what the watchdog reports within the time, or an empty dict."""
        try:
            reply = self._replies.get(timeout=max(timeout_s, 0.001))
        except queue.Empty:
            return {}
        if "gone" in reply:
            self._replies.put(reply)  # true from now on, whoever reads next
        return reply


def _posix_signal(name: str) -> int:
    number = getattr(signal, name, None)
    if number is None:
        raise NodeFailed("A process cannot be paused on Windows; kill the node instead.")
    return int(number)
