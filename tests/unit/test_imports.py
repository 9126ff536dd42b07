"""Imports go down only, and what touches the world stays in its place.

The ladder of ARCHITECTURE.md, walked over the syntax of every file: imports inside functions
and under ``if TYPE_CHECKING`` count as well. The rules themselves are tested on planted
violations, so that a rule that no longer finds anything is noticed.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
FILES = sorted(path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py"))

LADDER = [
    {"doors"},
    {"cli"},
    {"view", "trial"},
    {"work"},
    {"amqp", "broker", "proof"},
    {
        "model",
        "snapshot",
        "received",
        "matching",
        "routing",
        "text",
        "errors",
        "address",
        "tls",
        "identity",
        "process",
    },
]
"""Rooms by level. A room may import itself and what is on a lower level; not its neighbours."""
LOWEST = LADDER[-1]
"""Here alone neighbours may import each other: text, errors and values are one vocabulary."""
ONLY_THE_LOWEST = {"view"}

PLACES = {
    "socket": {
        "amqp/connection.py",
        "broker/cables.py",
        "broker/ports.py",
        "broker/pump.py",
        "broker/readiness.py",
        "broker/relay.py",
        "trial/ceiling.py",
    },
    "subprocess": {"broker/", "trial/"},
    "tkinter": {
        "view/table.py",
        *(f"view/window{one}.py" for one in ("", "_keys", "_layout", "_look", "_parts")),
    },
    "sv_ttk": {"view/window_look.py"},
    "httpx": {"broker/management.py"},
    "http.client": {"broker/management.py"},
    "urllib.request": {"broker/management.py"},
    "urllib3": {"broker/management.py"},
    "requests": {"broker/management.py"},
    "pika": {"trial/peers/"},
    "aio_pika": {"trial/peers/"},
    "print": {"cli/", "trial/ceiling.py", "trial/participant.py", "trial/peers/"},
    "sys.exit": {"cli/", "trial/ceiling.py", "trial/participant.py", "trial/peers/"},
}
"""Module or call, and the only files (or rooms) that may have it."""
EXITS = {"exit", "quit"}  # what `site` adds to the builtins, for people at a prompt


DOORS = {"producer", "consumer", "consumer_gui", "monitor"}


def room_of(module: str) -> str | None:
    """Return the room of a module's full name; None outside the project, and for its version."""
    package, _, inside = module.partition(".")
    if package in DOORS:
        return "doors"
    if package != "rabbitproof" or inside in {"", "__version__"}:
        return None
    return inside.partition(".")[0]


def imported(tree: ast.AST, module: str) -> Iterator[str]:
    """Yield the full name of everything that is imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level]
                base = ".".join([*parents, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = ast.unparse(node.func)
            if name in {"importlib.import_module", "import_module", "__import__"}:
                yield str(node.args[0].value)


def called(tree: ast.AST) -> Iterator[str]:
    """Yield the calls that have a place, by the name they have in ``PLACES``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).removeprefix("builtins.")
            yield "sys.exit" if name in EXITS else name


def may_import(room: str, other: str) -> bool:
    if other == room:
        return True
    level = {name: number for number, rooms in enumerate(LADDER) for name in rooms}
    if other not in level or room not in level:
        return False
    if room in LOWEST or room in ONLY_THE_LOWEST:
        return other in LOWEST
    return level[other] > level[room]


def violations(file: str, source: str) -> list[str]:
    """Return what a file (its path below src) does that its place does not allow."""
    inside = file.removeprefix("rabbitproof/")
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if file.endswith("/__init__.py"):
        module += ".__init__"
    if inside == "__init__.py":
        room = "package"  # on no level: it imports nothing
    elif inside == file or inside == "__main__.py":
        room = "doors"
    else:
        room = inside.partition("/")[0].removesuffix(".py")
    found = []
    tree = ast.parse(source)
    names = list(imported(tree, module))
    for name in names:
        other = room_of(name)
        if other is not None and not may_import(room, other):
            found.append(f"{file}: {room} may not import {name}")
    for name in [*names, *called(tree)]:
        for thing, places in PLACES.items():
            if (name == thing or name.startswith(thing + ".")) and not any(
                inside == place or (place.endswith("/") and inside.startswith(place))
                for place in places
            ):
                found.append(f"{file}: {thing} belongs in {', '.join(sorted(places))}")
    return found


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_and_does_only_what_its_place_allows(file: str) -> None:
    assert violations(file, (SRC / file).read_text("utf-8")) == []


def test_every_room_is_on_the_ladder() -> None:
    rooms = {file.split("/")[1].removesuffix(".py") for file in FILES if "/" in file}
    assert rooms - set.union(*LADDER) == {"__init__", "__main__"}


PLANTED = [
    ("rabbitproof/cli/x.py", "import producer"),
    ("rabbitproof/view/x.py", "from rabbitproof.work import produce"),
    ("rabbitproof/view/x.py", "from rabbitproof.broker.management import Management"),
    ("rabbitproof/view/x.py", "from rabbitproof.trial import faults"),
    ("rabbitproof/trial/x.py", "from rabbitproof.view import report"),
    ("rabbitproof/trial/x.py", "from rabbitproof.cli.exits import note"),
    ("rabbitproof/work/x.py", "import rabbitproof.trial.faults"),
    ("rabbitproof/work/x.py", "from rabbitproof import cli"),
    ("rabbitproof/amqp/x.py", "from rabbitproof.proof import ledger"),
    ("rabbitproof/amqp/x.py", "from rabbitproof.broker import node"),
    ("rabbitproof/broker/x.py", "from rabbitproof.amqp.session import Session"),
    ("rabbitproof/broker/x.py", "from ..proof import verdict"),
    ("rabbitproof/proof/x.py", "def f():\n    from rabbitproof.amqp import session"),
    ("rabbitproof/proof/x.py", "from rabbitproof.work import consume"),
    ("rabbitproof/proof/__init__.py", "from ..work import consume"),
    (
        "rabbitproof/model.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rabbitproof.proof.ledger",
    ),
    ("rabbitproof/text.py", "from .cli import exits"),
    ("rabbitproof/errors.py", "import importlib\nimportlib.import_module('rabbitproof.work')"),
    ("rabbitproof/work/x.py", "from rabbitproof.attic import things"),
    ("rabbitproof/attic.py", "from rabbitproof.text import safe"),
    ("rabbitproof/__init__.py", "from rabbitproof.cli import main"),
    ("rabbitproof/work/x.py", "import socket"),
    ("rabbitproof/amqp/session.py", "from socket import AF_INET"),
    ("rabbitproof/broker/install.py", "import socket as s"),
    ("rabbitproof/broker/node.py", "import socket"),
    ("rabbitproof/work/x.py", "def f():\n    import subprocess"),
    ("rabbitproof/cli/x.py", "from subprocess import run"),
    ("rabbitproof/work/x.py", "import httpx"),
    ("rabbitproof/broker/install.py", "import urllib.request"),
    ("rabbitproof/broker/install.py", "from urllib import request"),
    ("rabbitproof/cli/x.py", "__import__('requests')"),
    ("rabbitproof/view/cards.py", "import tkinter.ttk"),
    ("rabbitproof/cli/window.py", "from tkinter import Tk"),
    ("rabbitproof/amqp/x.py", "import pika"),
    ("rabbitproof/trial/bench.py", "from pika import BlockingConnection"),
    ("rabbitproof/trial/bench.py", "import aio_pika.abc"),
    ("rabbitproof/trial/peers.py", "import pika"),
    ("rabbitproof/trial/peers/x.py", "import socket"),
    ("rabbitproof/work/x.py", "print('x')"),
    ("rabbitproof/trial/x.py", "import builtins\nbuiltins.print('x')"),
    ("producer.py", "print('x')"),
    ("rabbitproof/__main__.py", "import sys\nsys.exit(1)"),
    ("rabbitproof/work/x.py", "from sys import exit"),
    ("rabbitproof/view/x.py", "exit(1)"),
]


@pytest.mark.parametrize(("file", "source"), PLANTED)
def test_a_planted_violation_is_found(file: str, source: str) -> None:
    assert violations(file, source)


ALLOWED = [
    ("producer.py", "from rabbitproof.cli.produce import app"),
    ("rabbitproof/__main__.py", "from rabbitproof.cli.main import main"),
    ("rabbitproof/cli/x.py", "import sys\nprint('x')\nsys.exit(1)"),
    (
        "rabbitproof/cli/x.py",
        "from rabbitproof.view import cards\nfrom rabbitproof.errors import E",
    ),
    ("rabbitproof/cli/x.py", "from rabbitproof import __version__, errors"),
    ("rabbitproof/view/x.py", "from rabbitproof.model import Verdict\nfrom .cards import Card"),
    ("rabbitproof/trial/ceiling.py", "import socket, subprocess"),
    ("rabbitproof/trial/peers/x.py", "import subprocess, sys, pika, aio_pika"),
    ("rabbitproof/trial/peers/x.py", "import sys\nprint('x')\nsys.exit(1)"),
    ("rabbitproof/work/x.py", "from rabbitproof.amqp import session\nfrom ..proof import ledger"),
    ("rabbitproof/broker/node.py", "import subprocess\nfrom . import install"),
    ("rabbitproof/broker/readiness.py", "import socket"),
    ("rabbitproof/broker/__init__.py", "from . import install"),
    ("rabbitproof/broker/management.py", "import httpx\nfrom urllib.parse import quote"),
    ("rabbitproof/amqp/connection.py", "import socket\nimport ssl"),
    ("rabbitproof/address.py", "from rabbitproof.text import safe"),
    ("rabbitproof/view/window.py", "from tkinter import ttk"),
    ("rabbitproof/work/x.py", "stream.print('x')\nworker.exit()"),
]


@pytest.mark.parametrize(("file", "source"), ALLOWED)
def test_what_the_ladder_allows_is_no_violation(file: str, source: str) -> None:
    assert violations(file, source) == []


@pytest.mark.parametrize("thing", PLACES)
def test_every_place_has_a_planted_violation(thing: str) -> None:
    found = [words for file, source in PLANTED for words in violations(file, source)]
    if thing not in {"sv_ttk", "http.client", "urllib3"}:  # same rule, other names of the thing
        assert any(f": {thing} belongs in" in words for words in found)
