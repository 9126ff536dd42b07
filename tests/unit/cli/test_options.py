from __future__ import annotations

from typing import Annotated

import pytest
import typer

from rabbitproof.cli import options
from rabbitproof.cli.connection import Connection, Flags
from rabbitproof.cli.exits import Exit, run

SEEN: list[tuple[Connection, int, str]] = []


def example() -> typer.Typer:
    app = options.new_app()

    @app.command()
    @options.with_connection
    def example(
        word: Annotated[str, typer.Argument(help="A word.")] = "none",
        *,
        connection: Connection,
        count: options.Count = options.COUNT,
    ) -> Exit:
        """Show what a command gets."""
        SEEN.append((connection, count, word))
        return Exit.DONE

    return app


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RABBITMQ_URL", raising=False)
    monkeypatch.delenv("RABBITMQ_MANAGEMENT_URL", raising=False)


def test_a_command_gets_one_connection_for_twelve_options() -> None:
    arguments = ["hello", "--host", "::1", "--port", "5673", "--vhost", "v", "--count", "3"]
    assert run(example(), arguments=arguments) == Exit.DONE
    connection, count, word = SEEN.pop()
    (address,) = connection.addresses
    assert (address.host, address.port, address.vhost) == ("::1", 5673, "v")
    assert connection.api.url == "http://[::1]:15672"
    assert (count, word) == (3, "hello")


def test_a_command_called_without_options_gets_the_defaults() -> None:
    assert run(example(), arguments=[]) == Exit.DONE
    connection, count, word = SEEN.pop()
    (address,) = connection.addresses
    assert address.url() == "amqp://guest:guest@localhost:5672/%2F"
    assert (count, word) == (10_000, "none")


def test_the_environment_is_read_when_the_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    app = example()
    monkeypatch.setenv("RABBITMQ_URL", "amqp://127.0.0.2")
    assert run(app, arguments=[]) == Exit.DONE
    assert SEEN.pop()[0].addresses[0].host == "127.0.0.2"


def test_the_help_lists_the_commands_own_options_and_the_connections(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(example(), arguments=["--help"]) == Exit.DONE
    out = capsys.readouterr().out
    assert out.index("--count") < out.index("--url")
    for name in Flags.__dataclass_fields__:
        assert f"--{name.replace('_', '-')} " in out
    assert "Show what a command gets." in out
    assert "--no-" not in out
    assert "completion" not in out


def test_every_connection_option_is_one_of_the_flags_and_the_other_way_round() -> None:
    assert list(options._CONNECTION_OPTIONS) == list(Flags.__dataclass_fields__)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "amqp"])
def test_a_port_is_a_number_from_1_to_65535(port: str) -> None:
    assert run(example(), arguments=["--port", port]) == Exit.USAGE
