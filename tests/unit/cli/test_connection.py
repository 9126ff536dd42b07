import os
from dataclasses import replace
from pathlib import Path

import pytest

from rabbitproof.address import Address, Tls
from rabbitproof.cli.connection import Api, Flags, connection_from, management, resolve
from rabbitproof.errors import UsageError

SECRET = "sesame"


def no_warning(text: str) -> None:
    raise AssertionError(text)


def resolved(flags: Flags, url: str | None = None) -> tuple[Address, ...]:
    return resolve(flags, {} if url is None else {"RABBITMQ_URL": url}, no_warning)


def warnings_of(flags: Flags, url: str | None = None) -> list[str]:
    warnings: list[str] = []
    resolve(flags, {} if url is None else {"RABBITMQ_URL": url}, warnings.append)
    assert SECRET not in "".join(warnings)
    return warnings


def test_without_anything_it_is_the_local_broker() -> None:
    assert resolved(Flags()) == (Address(),)
    assert resolved(Flags(), url="") == (Address(),)


def test_the_environment_comes_before_the_default() -> None:
    assert resolved(Flags(), "amqp://localhost:1/v") == (Address(port=1, vhost="v"),)


def test_the_url_flag_replaces_the_environment_as_a_whole() -> None:
    assert resolved(Flags(url="amqp://localhost:2"), "amqp://localhost:1/v") == (Address(port=2),)


@pytest.mark.parametrize(
    "flags",
    [Flags(host="::1"), Flags(port=1), Flags(vhost="v"), Flags(username="ann")],
)
def test_a_flag_replaces_its_part_of_the_environment(flags: Flags) -> None:
    url = "amqp://bob:b@127.0.0.1:5673/w"
    (before,), (after,) = resolved(Flags(), url), resolved(flags, url)
    given = {name: getattr(flags, name) for name in ("host", "port", "vhost", "username")}
    assert after == replace(before, **{k: v for k, v in given.items() if v is not None})


def test_a_flag_replaces_its_part_in_each_of_several_addresses() -> None:
    url = "amqp://127.0.0.1,amqp://127.0.0.2"
    assert [a.vhost for a in resolved(Flags(vhost="v"), url)] == ["v", "v"]
    assert resolved(Flags(host="localhost"), url) == (Address(),)


@pytest.mark.parametrize(
    "flags",
    [
        Flags(url="amqp://a", host="b"),
        Flags(url="amqp://a", port=1),
        Flags(url="amqp://a", vhost="v"),
        Flags(url="amqp://a", username="ann"),
        Flags(password="p", password_file=Path("p")),
        Flags(host="a:1"),
        Flags(host="amqp://a"),
        Flags(host="a,b"),
        Flags(host=""),
        Flags(vhost="é" * 128),
        Flags(url="http://a"),
        Flags(insecure=True),
        Flags(key_file=Path(__file__), url="amqps://a"),
        Flags(ca_file=Path("/nowhere"), url="amqps://a"),
        Flags(ca_file=Path(__file__), url="amqp://a"),
        Flags(ca_file=Path(__file__), insecure=True, url="amqps://a"),
    ],
)
def test_what_contradicts_itself_is_wrong_usage(flags: Flags) -> None:
    with pytest.raises(UsageError):
        resolve(flags, {}, lambda _: None)


def test_an_error_names_the_source_and_hides_its_value() -> None:
    with pytest.raises(UsageError, match=r"^RABBITMQ_URL: ") as caught:
        resolved(Flags(), f"http://u:{SECRET}@h")
    assert SECRET not in str(caught.value)
    with pytest.raises(UsageError, match=r"^--url: "):
        resolved(Flags(url="http://h"))


def test_a_host_in_brackets_is_an_ipv6_address() -> None:
    assert resolved(Flags(host="[::1]"))[0].host == "::1"


def test_a_password_on_the_command_line_is_used_with_a_warning() -> None:
    warnings: list[str] = []
    (address,) = resolve(Flags(password=SECRET), {}, warnings.append)
    assert address.password == SECRET
    assert len(warnings) == 1
    assert "process list" in warnings[0]
    assert SECRET not in warnings[0]


@pytest.mark.parametrize(
    ("flags", "environment", "shows"),
    [
        (Flags(url=f"amqp://bob:{SECRET}@localhost"), {}, True),
        (Flags(url="amqp://guest:guest@localhost"), {}, False),
        (Flags(url="amqp://bob@localhost"), {}, False),
        (Flags(management_url=f"http://bob:{SECRET}@localhost:15672"), {}, True),
        (Flags(), {"RABBITMQ_URL": f"amqp://bob:{SECRET}@localhost"}, False),
    ],
)
def test_and_so_is_one_in_a_url_on_the_command_line(
    flags: Flags, environment: dict[str, str], shows: bool
) -> None:
    warnings: list[str] = []
    resolve(flags, environment, warnings.append)
    assert [SECRET in one for one in warnings] == ([False] if shows else [])
    assert all("url shows in the process list" in one for one in warnings)


@pytest.mark.parametrize("content", [b"sesame", b"sesame\n", b"sesame\r\nsecond line\n"])
def test_a_password_file_holds_the_password_in_its_first_line(
    content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    file.chmod(0o600)
    flags = Flags(password_file=file, url="amqp://bob@localhost")
    assert resolved(flags) == (Address(username="bob", password=SECRET),)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such permissions")
@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_password_file_that_others_may_read_is_warned_of(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(SECRET)
    file.chmod(mode)
    (warning,) = warnings_of(Flags(password_file=file))
    assert "chmod 600" in warning


@pytest.mark.parametrize("content", [None, b"", b"\nsesame", b"\xff\xfesesame"])
def test_a_password_file_without_a_password_is_wrong_usage(
    content: bytes | None, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match="--password-file") as caught:
        resolved(Flags(password_file=file))
    assert SECRET not in str(caught.value)


def test_insecure_is_loud_and_verifies_nothing() -> None:
    (warning,) = warnings_of(Flags(url="amqps://rabbit", insecure=True))
    assert "NO CERTIFICATE IS VERIFIED" in warning
    (address,) = resolve(Flags(url="amqps://rabbit", insecure=True), {}, lambda _: None)
    assert address.tls == Tls(verify=False)


def test_certificates_are_verified_unless_told_otherwise() -> None:
    assert resolved(Flags(url="amqps://rabbit"))[0].tls == Tls()
    flags = Flags(url="amqps://rabbit", ca_file=Path(__file__))
    assert resolved(flags)[0].tls == Tls(ca_file=__file__)


def test_a_password_that_travels_unencrypted_is_warned_of() -> None:
    (warning,) = warnings_of(Flags(), f"amqp://bob:{SECRET}@10.0.0.7")
    assert "10.0.0.7" in warning
    assert warnings_of(Flags(), f"amqp://bob:{SECRET}@localhost") == []
    assert warnings_of(Flags(), f"amqps://bob:{SECRET}@10.0.0.7") == []


def api(flags: Flags, environment: dict[str, str] | None = None, **address: object) -> Api:
    return management(flags, (Address(**address),), environment or {})  # type: ignore[arg-type]


def test_the_management_api_is_the_flags_then_the_environments_then_beside_the_broker() -> None:
    environment = {"RABBITMQ_MANAGEMENT_URL": "http://b:2/"}
    assert api(Flags(management_url="http://a:1/"), environment).url == "http://a:1"
    assert api(Flags(), environment).url == "http://b:2"
    assert api(Flags(), host="c").url == "http://c:15672"
    assert api(Flags(), host="c", tls=Tls()).url == "https://c:15671"


def test_the_management_login_is_that_of_amqp_unless_the_url_has_one() -> None:
    one = api(Flags(), username="bob", password=SECRET)
    assert (one.address.username, one.address.password) == ("bob", SECRET)
    two = api(Flags(management_url="http://ann:a%40b@h:1/prefix"), username="bob")
    assert (two.address.username, two.address.password) == ("ann", "a@b")
    assert two.url == "http://h:1/prefix"


def test_https_is_verified_as_amqps_is() -> None:
    tls = Tls(ca_file="ca.pem")
    assert api(Flags(management_url="https://h"), tls=tls).address.tls == tls
    assert api(Flags(management_url="https://h")).address.tls == Tls()
    assert api(Flags(management_url="http://h"), tls=tls).address.tls is None


def test_options_for_tls_may_be_meant_for_https_alone() -> None:
    flags = Flags(ca_file=Path(__file__), management_url="https://h")
    connection = connection_from(flags, {}, no_warning)
    assert connection.addresses[0].tls is None
    assert connection.api.address.tls == Tls(ca_file=__file__)


@pytest.mark.parametrize(
    "url",
    ["h:15672", "ftp://h", "http://", "http://h:x", "http://h?x=1", "http://[::1", "amqp://h"],
)
def test_a_management_url_that_is_none_is_wrong_usage(url: str) -> None:
    with pytest.raises(UsageError, match=r"^--management-url "):
        api(Flags(management_url=url))


def test_no_representation_holds_a_password() -> None:
    url = f"amqp://bob:{SECRET}@localhost"
    flags = Flags(url=url, management_url=f"http://bob:{SECRET}@localhost")
    assert SECRET not in repr(connection_from(flags, {}, [].append))
    assert SECRET not in repr(replace(flags, password=SECRET))
