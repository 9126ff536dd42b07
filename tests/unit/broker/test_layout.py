from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rabbitproof.broker import layout
from rabbitproof.broker.install import Installation
from rabbitproof.broker.layout import Identity, Layout, Ports, State, TlsFiles
from rabbitproof.errors import UsageError
from rabbitproof.process import Process

pytestmark = pytest.mark.skipif(os.name != "posix", reason="file modes and links")

PORTS = Ports(1001, 1002, 1003, 1004, 1005, 1006)
IDENTITY = Identity("x@localhost", "user", "secret-password")


def application(plugins: Path, name: str, needs: str, version: str = "1.0") -> None:
    folder = plugins / f"{name}-{version}" / "ebin"
    folder.mkdir(parents=True)
    (folder / f"{name}.app").write_text(
        f"%% a comment with {{applications,[nonsense]}}\n"
        f"{{application,{name},[{{applications,\n [kernel,\n  {needs}]}}]}}.\n",
        encoding="utf-8",
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "rabbitmq_server-9.9.9"
    for script in ("rabbitmq-server", "rabbitmq-env", "rabbitmq-defaults", "rabbitmqctl"):
        (home / "sbin").mkdir(parents=True, exist_ok=True)
        (home / "sbin" / script).touch()
    (home / "escript").mkdir()
    plugins = home / "plugins"
    application(plugins, "rabbit_common", "jsx")
    application(plugins, "jsx", "stdlib")
    application(plugins, "spare_library", "jsx")
    application(plugins, "rabbit", "rabbit_common,rabbitmq_prelaunch")
    application(plugins, "rabbitmq_prelaunch", "rabbit_common")
    application(plugins, "rabbitmq_web", "rabbit_common")
    application(plugins, "rabbitmq_management", "rabbit,rabbitmq_web")
    application(plugins, "rabbitmq_prometheus", "rabbit,rabbitmq_web")
    application(plugins, "rabbitmq_shovel", "rabbit,rabbit_common")
    return home


@pytest.fixture
def place(home: Path, tmp_path: Path) -> Layout:
    installation = Installation(home, Path("/erlang"), "9.9.9", "fetched")
    return Layout(installation, tmp_path / "node", IDENTITY, PORTS, "mark")


def settings(place: Layout) -> dict[str, str]:
    text = (place.directory / "rabbitmq.conf").read_text(encoding="utf-8")
    return dict(line.split(" = ", 1) for line in text.splitlines())


def test_nothing_of_the_callers_environment_reaches_the_server(
    place: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NODENAME", "RABBITMQ_NODENAME", "SERVER_ERL_ARGS", "ERL_FLAGS", "ERL_LIBS"):
        monkeypatch.setenv(name, "foreign")
    monkeypatch.setenv("RABBITPROOF_NODE", "another node's mark")
    assert "foreign" not in place.environment().values()
    assert "RABBITPROOF_NODE" not in place.environment()


def test_every_file_that_rabbitmq_looks_for_is_the_nodes_own(place: Layout) -> None:
    environment = place.environment()
    for name in (
        *("CONFIG_FILE", "CONFIG_FILES", "ADVANCED_CONFIG_FILE", "CONF_ENV_FILE"),
        *("ENABLED_PLUGINS_FILE", "MNESIA_BASE", "LOG_BASE", "LOGS", "PID_FILE"),
    ):
        assert environment[f"RABBITMQ_{name}"].startswith(str(place.directory))
    assert environment["HOME"].startswith(str(place.directory))
    assert environment["ERL_ROOTDIR"] == "/erlang"
    assert environment["PATH"].startswith("/erlang/bin:")
    # Erlang brings its libraries; what else a node starts is the system's, with the system's own.
    assert "LD_LIBRARY_PATH" not in environment


def test_secrets_are_in_no_environment(place: Layout) -> None:
    place.write({}, None)
    cookie = (place.directory / "home/.erlang.cookie").read_text(encoding="ascii")
    assert len(cookie) >= 20
    shown = " ".join(place.environment().values())
    assert cookie not in shown
    assert IDENTITY.password not in shown


def test_every_listener_is_on_the_loopback(place: Layout) -> None:
    files = TlsFiles(Path("ca.pem"), Path("cert.pem"), Path("key.pem"))
    place.write({}, files)
    written = settings(place)
    assert written["listeners.tcp.1"] == "127.0.0.1:1001"
    assert written["listeners.ssl.1"] == "127.0.0.1:1006"
    assert written["management.tcp.ip"] == written["prometheus.tcp.ip"] == "127.0.0.1"
    assert Path(written["ssl_options.keyfile"]).is_absolute()


def test_without_tls_there_is_no_tls_listener(place: Layout) -> None:
    place.write({}, None)
    assert not [name for name in settings(place) if "ssl" in name]


def test_a_setting_replaces_ours(place: Layout) -> None:
    place.write({"log.file.level": "debug", "channel_max": "5"}, None)
    assert settings(place)["log.file.level"] == "debug"
    assert settings(place)["channel_max"] == "5"


def test_a_setting_cannot_smuggle_in_another(place: Layout) -> None:
    with pytest.raises(UsageError, match="line break"):
        place.write({"channel_max": "5\nlisteners.tcp.2 = 0.0.0.0:5672"}, None)


def test_written_again_the_cookie_stays(place: Layout) -> None:
    place.write({}, None)
    cookie = (place.directory / "home/.erlang.cookie").read_bytes()
    place.write({}, None)
    assert (place.directory / "home/.erlang.cookie").read_bytes() == cookie


def test_modes_keep_others_out(place: Layout) -> None:
    place.write({}, None)
    modes = {
        name: (place.directory / name).stat().st_mode & 0o777
        for name in ("home", "data", "log", "home/.erlang.cookie", "rabbitmq.conf")
    }
    assert modes == {
        **dict.fromkeys(("home", "data", "log"), 0o700),
        "home/.erlang.cookie": 0o400,
        "rabbitmq.conf": 0o600,
    }


def test_the_reduced_server_has_what_is_needed_and_no_other_plugin(place: Layout) -> None:
    place.write({}, None)
    server = place.directory / "server"
    names = {path.name.rsplit("-", 1)[0] for path in (server / "plugins").iterdir()}
    assert "rabbitmq_shovel" not in names
    assert names == {
        *("rabbit", "rabbit_common", "jsx", "spare_library", "rabbitmq_prelaunch"),
        *("rabbitmq_web", "rabbitmq_management", "rabbitmq_prometheus"),
    }
    assert (server / "escript").is_dir()
    assert place.server_command() == [str(server / "sbin/rabbitmq-server")]
    assert place.environment()["RABBITMQ_SCRIPTS_DIR"] == str(server / "sbin")


@pytest.mark.parametrize("oddity", ["archive", "unknown"])
def test_a_server_that_is_not_understood_is_used_whole(oddity: str, place: Layout) -> None:
    home = place.installation.home
    if oddity == "archive":
        (home / "plugins/rabbit-9.9.9.ez").touch()
    else:
        (home / "plugins/rabbitmq_management-1.0/ebin/rabbitmq_management.app").unlink()
    place.write({}, None)
    assert place.server_command() == [str(home / "sbin/rabbitmq-server")]
    assert "RABBITMQ_SCRIPTS_DIR" not in place.environment()


def test_links_to_an_older_server_are_replaced(place: Layout) -> None:
    stale = place.directory / "server/plugins/rabbit-0.1"
    stale.mkdir(parents=True)
    place.write({}, None)
    assert not stale.exists()


def test_every_tool_gets_a_wrapper_and_the_server_none(place: Layout) -> None:
    place.write({}, None)
    assert [path.name for path in place.tools.iterdir()] == ["rabbitmqctl"]
    assert os.access(place.tools / "rabbitmqctl", os.X_OK)


def test_the_memory_limit_is_bounded() -> None:
    assert 0 < layout.memory_watermark() <= 2 * 1024**3


def test_two_new_nodes_share_no_name_and_no_login() -> None:
    one, other = Identity.new("a" * 32, None, None), Identity.new("b" * 32, None, None)
    assert one.name != other.name
    assert one.username != other.username
    assert one.password != other.password


def test_a_login_that_would_need_quoting_is_refused() -> None:
    with pytest.raises(UsageError):
        Identity.new("a" * 32, "us er", "x")
    with pytest.raises(UsageError):
        Identity.new("a" * 32, "user", "x#y")


def test_a_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    state = State(
        version="9.9.9",
        home="/home",
        erlang_root=None,
        origin="installed",
        mark="mark",
        identity=IDENTITY,
        ports=PORTS,
        process=Process.of(),
    )
    state.write(tmp_path)
    assert State.read(tmp_path) == state
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_a_state_of_an_older_version_is_understood(tmp_path: Path) -> None:
    identity, ports = asdict(IDENTITY), asdict(PORTS)
    known = {"version": "3.10.8", "home": "/home", "erlang_root": None, "libraries": None}
    known |= {"origin": "fetched", "mark": "mark", "identity": identity, "ports": ports}
    (tmp_path / "state.json").write_text(json.dumps(known | {"pid": 1, "started": 2.5}))
    state = State.read(tmp_path)
    assert state is not None
    assert (state.version, state.ports, state.process) == ("3.10.8", PORTS, None)


@pytest.mark.parametrize(
    ("version", "permitted"), [("3.10.8", False), ("3.13.0", True), ("4.3.6", True)]
)
def test_transient_queues_are_permitted_where_that_has_to_be_said(
    version: str, permitted: bool, place: Layout
) -> None:
    place = replace(place, installation=replace(place.installation, version=version))
    place.write({}, None)
    name = "deprecated_features.permit.transient_nonexcl_queues"
    assert (name in settings(place)) is permitted  # an older one refuses to start with it


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"identity": {}, "ports": {}}'])
def test_a_state_that_is_not_understood_counts_as_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(text, encoding="utf-8")
    assert State.read(tmp_path) is None
