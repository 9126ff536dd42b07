from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rabbitproof.broker import install
from rabbitproof.errors import InstallError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="file modes and sh")


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def server(home: Path) -> Path:
    executable(home / "sbin/rabbitmq-server")
    executable(home / "sbin/rabbitmq-env")
    (home / "plugins/rabbit-3.99.1").mkdir(parents=True)
    return home


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without RabbitMQ, Erlang and apt; its PATH is the returned folder."""
    path = tmp_path / "path"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    for name in ("RABBITMQ_HOME", "ERLANG_HOME", "HOMEBREW_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    return path


def test_the_cache_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RABBITPROOF_CACHE", str(tmp_path))
    assert install.cache_folder() == tmp_path
    monkeypatch.delenv("RABBITPROOF_CACHE")
    assert install.cache_folder().name == "rabbitproof"


@pytest.mark.parametrize("bad", ["*", "?", "^", "!", "[", "]", "{", "}", " ", "'", '"', "$", "\n"])
def test_a_path_that_rabbitmq_cannot_use_is_refused(bad: str) -> None:
    with pytest.raises(InstallError, match="RABBITPROOF_CACHE"):
        install.check_path(Path(f"/tmp/a{bad}b"))  # noqa: S108 - nothing is written


def test_a_path_in_another_script_is_fine() -> None:
    assert install.check_path(Path("/home/Žofie/.cache")) == Path("/home/Žofie/.cache")


def test_a_server_on_the_path_is_found_behind_its_link(bare: Path, tmp_path: Path) -> None:
    home = server(tmp_path / "opt/rabbitmq_server-4.1.0-rc.2")
    (bare / "rabbitmq-server").symlink_to(home / "sbin/rabbitmq-server")
    executable(bare / "erl")
    found = install.find()
    assert found is not None
    assert (found.home, found.version, found.origin) == (home, "4.1.0-rc.2", "installed")
    assert found.erlang_root is None
    assert found.tool("rabbitmqctl") == home / "sbin/rabbitmqctl"


def test_the_wrapper_for_root_only_is_not_an_installation(bare: Path) -> None:
    executable(bare / "sbin/rabbitmq-server")
    (bare / "rabbitmq-server").symlink_to(bare / "sbin/rabbitmq-server")
    executable(bare / "erl")
    found = install.find()
    assert found is None or bare not in found.home.parents


@pytest.mark.parametrize("lacks", ["sbin/rabbitmq-env", "plugins"])
def test_a_folder_that_lacks_a_part_is_no_server(
    lacks: str, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = server(tmp_path / "rabbitmq_server-4.0.0")
    (home / lacks).rename(home / "elsewhere")
    monkeypatch.setenv("RABBITMQ_HOME", str(home))
    executable(bare / "erl")
    found = install.find()
    assert found is None or found.home != home


def test_a_version_comes_from_the_plugins_where_the_folder_does_not_say(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_HOME", str(server(tmp_path / "anything")))
    executable(bare / "erl")
    found = install.find()
    assert found is not None
    assert found.version == "3.99.1"


def test_an_erlang_off_the_path_is_found_by_its_variable(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bare.is_dir()
    erlang = executable(tmp_path / "otp/bin/erl").parent.parent
    monkeypatch.setenv("RABBITMQ_HOME", str(server(tmp_path / "rabbitmq_server-4.0.0")))
    monkeypatch.setenv("ERLANG_HOME", str(erlang))
    found = install.find()
    assert found is not None
    assert found.erlang_root == erlang


@pytest.mark.parametrize(
    ("tool", "command"),
    [("dnf", "sudo dnf install rabbitmq-server"), ("pacman", "sudo pacman -S rabbitmq")],
)
def test_the_one_command_that_installs_is_the_systems(
    tool: str, command: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    executable(bare / tool)
    assert install.install_command() == command


def test_on_a_mac_homebrew_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert install.install_command() == "brew install rabbitmq"
