"""Commands typed on a machine that has nothing: a minimal Debian 12 with Python, git and make.

    python3 tests/outside/bare.py 'make demo' 'make demo' 'make test'       (or: make bare)
    python3 tests/outside/bare.py --readme 'make demo' 'make test'          (or: make bare-all)

Needs root, and debootstrap, which it installs where there is apt. The system is made once, in
``$BARE`` or /var/cache/rabbitproof-bare (300 MB, about a minute). Each trial works on a copy of it,
in namespaces of its own: an ordinary user with an empty HOME and a fresh clone of what is committed
here types the commands in turn, up to the first that fails. Then nothing may be left: no process,
no port, no file outside HOME, nothing in the checkout that git does not ignore, no node's files in
the cache. The copy and all that ran in it are gone when the trial ends, however it ends.

Uses Python's own library only. The exit code is that of the command that failed, 1 when something
was left, 2 when there can be no trial here.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("BARE") or "/var/cache/rabbitproof-bare")
RELEASE = "bookworm"
PACKAGES = "python3,python3-venv,git,make,ca-certificates,procps"
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
NETWORK = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
           "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")  # fmt: skip
"""What of the environment says how the network is reached; and these name the certificates."""
TRUST = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
DEADLINE_S = 1800
"""For one command."""
GONE_S = 10.0
"""What a command started has so long to follow it."""
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
           "tty": (5, 0)}  # fmt: skip
LINKS = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1",
         "stderr": "fd/2"}  # fmt: skip
LISTENS = "0A"
"""A socket's state in /proc/net/tcp."""
SHOWN = 12
"""Lines of each command's end."""


class Impossible(Exception):
    """There can be no trial here; says what helps."""


# --- outside: the system, a copy of it, and the namespaces ---


def system() -> Path:
    """Return the folder of the bare system, made whole or not at all."""
    made = CACHE / "system"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed by the kernel when its holder is killed
        if made.is_dir():
            return made
        if shutil.which("debootstrap") is None:
            install()
        part = CACHE / "system.part"
        shutil.rmtree(part, ignore_errors=True)  # of one that was killed
        print(f"making a bare Debian ({RELEASE}) in {made}, once", flush=True)
        with (CACHE / "system.log").open("wb") as log:
            # In namespaces of its own: what it mounts and starts ends with it.
            words = ["--variant=minbase", f"--include={PACKAGES}", RELEASE, str(part), *mirror()]
            code = alone(["debootstrap", *words], log.fileno())
        if code != 0:
            raise Impossible(f"debootstrap failed; see {CACHE}/system.log.")
        shutil.rmtree(part / "var/cache/apt", ignore_errors=True)
        part.rename(made)
        return made


def install() -> None:
    if shutil.which("apt-get") is None:
        raise Impossible("A bare system is made by debootstrap; install it.")
    for words in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends",
                                     "debootstrap", "debian-archive-keyring"]):  # fmt: skip
        subprocess.run(["apt-get", *words], stdout=subprocess.DEVNULL, check=True)


def mirror() -> list[str]:
    """Return where this machine has Debian from, if it is a Debian; else debootstrap knows."""
    for path in ("debian.sources", "../sources.list"):
        with contextlib.suppress(OSError):
            text = Path("/etc/apt/sources.list.d", path).read_text("utf-8")
            if found := re.search(r"^(?:URIs:|deb)\s+(\S+/debian/?)(?:\s|$)", text, re.MULTILINE):
                return [found[1]]
    return []


def alone(command: list[str], log: int | None = None) -> int:
    """Run a command in mount and process namespaces, which end with it and with this process."""
    unshare = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *unshare, *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl+C is for us, and we end it
    )
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            # The first process of the namespace is gone when all others in it are.
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for first in children.split():
                os.kill(int(first), signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def copy_of(made: Path) -> Iterator[Path]:
    """Give a copy of the system that is deleted afterwards, with those that were left before."""
    trials = CACHE / "trials"
    trials.mkdir(exist_ok=True)
    for earlier in trials.iterdir():
        with contextlib.suppress(OSError), (earlier / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(earlier)
    folder = Path(tempfile.mkdtemp(dir=trials))
    try:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            root = folder / "root"
            subprocess.run(["cp", "-a", "--reflink=auto", str(made), str(root)], check=True)
            yield root
    finally:
        shutil.rmtree(folder)


def prepare(root: Path, user: str, uid: int) -> None:
    """Give the copy this machine's network, a user, and a clone in their HOME."""
    for name in ("etc/hosts", "etc/resolv.conf", "etc/pip.conf", BUNDLE):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(Path("/", name), root / name)
    subprocess.run(["chroot", str(root), "useradd", "-u", str(uid), user], check=True)
    home = root / "home" / user
    home.mkdir(mode=0o700)
    subprocess.run(["git", "clone", "-q", str(ROOT), str(home / "clone")], check=True)
    subprocess.run(["chown", "-R", f"{uid}:{uid}", str(home)], check=True)


def trial(commands: list[str], logs: Path, take: list[str]) -> int:
    """Carry out a whole trial and return its exit code."""
    uid = random.randrange(20_000, 60_000)  # so that two at once differ in whose a port is
    user = f"bare{uid}"
    logs.mkdir(parents=True, exist_ok=True)
    with copy_of(system()) as root:
        prepare(root, user, uid)
        told = json.dumps({"root": str(root), "user": user, "uid": uid, "logs": str(logs),
                           "commands": commands})  # fmt: skip
        code = alone([sys.executable, __file__, "--inside", told])
        for name in take:
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(root / "home" / user / "clone" / name, logs / Path(name).name)
    return code


def steps(readme: str) -> str:
    """Return the commands of the README's "Step by step" as one script, each shown as typed."""
    section = readme.split("\n## Step by step\n")[1].split("\n## ")[0]
    lines = re.findall(r"^    ([^\s\[].*)", section, re.MULTILINE)  # what is said begins with [
    return "\n".join(["set -e", *(f"echo {shlex.quote('$ ' + line)}\n{line}" for line in lines)])


# --- inside: the first process of the namespaces, which sees this machine's files ---


@dataclass(frozen=True, slots=True)
class Inside:
    """A copy of the system, and who types in it."""

    root: Path
    user: str
    uid: int

    def mount(self) -> None:
        """Give the copy file systems of its own, never a part of this machine's."""
        dev = self.root / "dev"
        self._mount("proc", "rw", "proc")
        self._mount("sysfs", "ro", "sys")
        self._mount("tmpfs", "mode=755", "dev")
        for name, (major, minor) in DEVICES.items():
            os.mknod(dev / name, 0o020_000, os.makedev(major, minor))
            (dev / name).chmod(0o666)
        for name in ("pts", "shm"):
            (dev / name).mkdir()
        self._mount("devpts", "newinstance,ptmxmode=666,mode=620", "dev/pts")
        self._mount("tmpfs", "mode=1777", "dev/shm")
        for name, target in LINKS.items():
            (dev / name).symlink_to(target)

    def _mount(self, kind: str, how: str, where: str) -> None:
        subprocess.run(["mount", "-t", kind, "-o", how, kind, str(self.root / where)], check=True)

    def type(self, command: str, log: int) -> int:
        """Type a command; return its exit status. Orphans are ours, as of any first process."""
        pid = os.fork()
        if pid == 0:
            try:
                self._become(command, log)
            finally:
                os._exit(127)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
        signal.alarm(DEADLINE_S)
        while True:
            ended, status = os.wait()
            if ended == pid:
                signal.alarm(0)
                return os.waitstatus_to_exitcode(status) % 256

    def _become(self, command: str, log: int) -> None:
        home = f"/home/{self.user}"
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python, or who started us, ignores them
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chroot(self.root)
        os.chdir(f"{home}/clone")
        os.setgroups([])
        os.setgid(self.uid)
        os.setuid(self.uid)
        environment = {name: os.environ[name] for name in NETWORK if name in os.environ}
        environment |= {name: f"/{BUNDLE}" for name in TRUST if name in os.environ}
        environment |= {"HOME": home, "USER": self.user, "LOGNAME": self.user,
                        "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}  # fmt: skip
        os.execve("/bin/bash", ["bash", "-c", command], environment)  # noqa: S606 - it is the shell

    def left(self) -> list[str]:
        """Return what is there that was not there before, once it had time to go."""
        until = time.monotonic() + GONE_S
        while (found := [*self._processes(), *self._ports()]) and time.monotonic() < until:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
            time.sleep(0.05)  # between two looks, with the deadline above
        return [*found, *self._files(), *self._checkout()]

    def _processes(self) -> Iterator[str]:
        for folder in (self.root / "proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                with contextlib.suppress(OSError):
                    words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    yield f"process {folder.name} {' '.join(words)[:200]}"

    def _ports(self) -> Iterator[str]:
        for name in ("tcp", "tcp6"):
            for line in (self.root / "proc/net" / name).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTENS and int(words[7]) == self.uid:
                    yield f"port {int(words[1].rsplit(':')[-1], 16)}"

    def _files(self) -> Iterator[str]:
        home = self.root / "home" / self.user
        for place in ("tmp", "var/tmp", "dev/shm", "run"):
            for path in (self.root / place).rglob("*"):
                with contextlib.suppress(OSError):
                    if path.lstat().st_uid == self.uid != path.parent.stat().st_uid:
                        yield f"file /{path.relative_to(self.root)}"  # with all that is in it
        for path in (home / ".cache/rabbitproof/nodes").glob("*"):
            yield f"file /{path.relative_to(self.root)}"

    def _checkout(self) -> list[str]:
        with tempfile.TemporaryFile() as said:
            self.type("git status --porcelain", said.fileno())
            said.seek(0)
            return [f"in the checkout {line.strip()}" for line in said.read().decode().splitlines()]


def inside(told: dict[str, Any]) -> int:
    """Type the commands in turn, say how each ended, then what is left of them."""
    here = Inside(Path(told["root"]), told["user"], told["uid"])
    here.mount()
    code = 0
    for number, command in enumerate(told["commands"], 1):
        title = command if "\n" not in command else "README, step by step"
        path = Path(told["logs"], f"{number}-{re.sub('[^a-zA-Z]+', '-', title)}.log")
        with path.open("wb") as log:
            before = os.times()
            code = here.type(command, log.fileno())
            after = os.times()
        print("\n".join(path.read_text("utf-8", "replace").splitlines()[-SHOWN:]))
        took = after.elapsed - before.elapsed
        busy = sum(after[2:4]) - sum(before[2:4])  # of all that has ended
        print(f"== {title}: exit {code} in {took:.0f} s ({busy:.0f} s of a processor); ", end="")
        print(f"{path} has all it said", flush=True)
        if code:
            break
    left = here.left()
    print(f"== left behind: {'; '.join(left) or 'nothing'}", flush=True)
    return code or (1 if left else 0)


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        return inside(json.loads(sys.argv[2]))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("commands", nargs="*", help="what is typed, in turn")
    parser.add_argument("--readme", action="store_true", help="and then README's step by step")
    parser.add_argument("--logs", type=Path, default=ROOT / "build/bare", help="all they say")
    parser.add_argument("--take", action="append", default=[], help="copy a clone's file there")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    commands = asked.commands
    if asked.readme:
        commands = [*commands, steps((ROOT / "README.md").read_text("utf-8"))]
    if os.geteuid() != 0:
        print("A bare system is made as root; run this with sudo.", file=sys.stderr)
        return 2
    try:
        return trial(commands, asked.logs.resolve(), asked.take)
    except Impossible as reason:
        print(reason, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
