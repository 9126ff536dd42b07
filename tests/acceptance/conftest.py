"""Commands run as a person runs them: as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60


def _heed_ctrl_c() -> None:
    """Undo what a shell does to a job in the background: it ignores SIGINT, and so do we then."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True, slots=True)
class Shell:
    """A terminal in the checkout, with a broker named in its environment."""

    environment: dict[str, str]

    def start(
        self, *arguments: str, prepare: Callable[[], None] | None = None
    ) -> subprocess.Popen[str]:
        """Start ``src/…py`` or a command of ``rabbitproof`` and return its process.

        ``prepare`` is called in the process before it begins.
        """

        def begin() -> None:
            _heed_ctrl_c()
            if prepare is not None:
                prepare()

        door = arguments[0].endswith(".py")
        command = [sys.executable, *([] if door else ["-m", "rabbitproof"]), *arguments]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=begin,
        )

    def run(
        self,
        *arguments: str,
        deadline_s: float = DEADLINE_S,
        prepare: Callable[[], None] | None = None,
    ) -> Any:
        """Run it to its end; return exit code, standard output and standard error."""
        process = self.start(*arguments, prepare=prepare)
        try:
            out, err = process.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"{arguments} took more than {deadline_s} s: {out}{err}")
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture
def shell(node: Any, vhost: Any) -> Shell:
    """A shell whose environment names the test's vhost."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"), NO_COLOR="1")
    environment["RABBITMQ_URL"] = vhost.url
    environment["RABBITMQ_MANAGEMENT_URL"] = node.management_url
    return Shell(environment)
