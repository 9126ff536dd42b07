"""The scripts, as far as they can be looked at without running them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

SCRIPTS = Path(__file__).parents[2] / "scripts"


def parse(source: bytes) -> Node:
    return Parser(Language(tree_sitter_powershell.language())).parse(source).root_node


def names(node: Node) -> set[str]:
    """Return the names of all parameters and variables, without their dollar sign."""
    own = {node.text.decode().lstrip("$")} if node.type == "variable" and node.text else set()
    return own.union(*(names(child) for child in node.children))


def test_the_powershell_script_has_no_syntax_error() -> None:
    assert not parse((SCRIPTS / "cleanup_queues.ps1").read_bytes()).has_error


def test_the_parser_would_notice_one() -> None:
    broken = (SCRIPTS / "cleanup_queues.ps1").read_bytes().replace(b"'--yes' }", b"'--yes'", 1)
    assert parse(broken).has_error


def test_the_powershell_script_takes_the_documented_arguments_and_is_thin() -> None:
    source = (SCRIPTS / "cleanup_queues.ps1").read_bytes()
    assert {"All", "Exchanges", "Queue", "Yes", "DryRun"} <= names(parse(source))
    assert len(source.splitlines()) < 30
    assert source.isascii() or source.startswith(b"\xef\xbb\xbf"), "Windows PowerShell reads ANSI"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash to parse a bash script")
def test_the_bash_script_has_no_syntax_error_and_may_be_run() -> None:
    script = SCRIPTS / "cleanup_queues.sh"
    subprocess.run(["bash", "-n", script], check=True)
    assert script.stat().st_mode & 0o111


@pytest.mark.skipif(shutil.which("make") is None or os.name == "nt", reason="needs make and sh")
def test_make_puts_the_command_that_every_hint_names_into_the_environment(tmp_path: Path) -> None:
    """`rabbitproof …` is the environment's own Python with the arguments as they are."""
    checkout = tmp_path / "a checkout"
    (checkout / ".venv/bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(SCRIPTS.parent / name, checkout)
    python = checkout / ".venv/bin/python"  # installs nothing, shows what it was asked for
    python.write_text('#!/bin/sh\n[ "$2" = rabbitproof ] && printf "%s|" "$@"\nexit 0\n')
    python.chmod(0o755)
    (checkout / ".venv/.python").touch()
    subprocess.run(["make", ".venv/.runtime"], cwd=checkout, check=True, timeout=60)
    command = subprocess.run(
        ["rabbitproof", "consume", "--name", "two words"],
        env={"PATH": f"{checkout}/.venv/bin:{os.defpath}"},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert command.stdout == "-m|rabbitproof|consume|--name|two words|"
