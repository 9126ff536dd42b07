import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.address import Address, Tls, is_local, management_url, parse
from rabbitproof.errors import UsageError

WORDS = st.text(st.characters(codec="utf-8"), max_size=40)
HOSTS = st.sampled_from(["localhost", "10.0.0.7", "rabbit.example.com", "::1", "fe80::1"])


@pytest.mark.parametrize(
    ("url", "address"),
    [
        # The examples of RabbitMQ's URI specification, where this program's default fills gaps.
        ("amqp://user:pass@host:10000/vhost", Address("host", 10000, "vhost", "user", "pass")),
        (
            "amqp://user%61:%61pass@ho%61st:10000/v%2fhost",
            Address("hoast", 10000, "v/host", "usera", "apass"),
        ),
        ("amqp://", Address()),
        ("amqp://:@/", Address(username="", password="")),
        ("amqp://user@", Address(username="user")),
        ("amqp://user:pass@", Address(username="user", password="pass")),
        ("amqp://host", Address("host")),
        ("amqp://:10000", Address(port=10000)),
        ("amqp:///vhost", Address(vhost="vhost")),
        ("amqp://host/", Address("host")),
        ("amqp://host/%2f", Address("host", vhost="/")),
        ("amqp://[::1]", Address("::1")),
        # And beyond it.
        ("AMQP://host:", Address("host")),
        ("amqps://host", Address("host", 5671, tls=Tls())),
        ("amqp://[::1]:5673/v", Address("::1", 5673, "v")),
        ("amqp://u:p@ss@host", Address("host", username="u", password="p@ss")),
        ("amqp://u:a:b@host", Address("host", username="u", password="a:b")),
        ("amqp://u:@host", Address("host", username="u", password="")),
    ],
)
def test_a_url_is_read_as_the_uri_specification_says(url: str, address: Address) -> None:
    assert parse(url) == (address,)


def test_several_addresses_are_separated_by_commas() -> None:
    tls = Tls(ca_file="ca.pem")
    assert parse("amqp://a:1, amqps://b", tls) == (Address("a", 1), Address("b", 5671, tls=tls))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sesame",
        "http://u:sesame@host",
        "amqp:u:sesame@host",
        "amqp://u:sesame@host?heartbeat=5",
        "amqp://u:ses?ame@host",
        "amqp://u:ses#ame@host",
        "amqp://u:ses/ame@host",
        "amqp://u:1/sesame@host/v",
        "amqp://u:sesame@host/a/b",
        "amqp://u:sesame",
        "amqp://u:sesame@host:port",
        "amqp://u:sesame@host:0",
        "amqp://u:sesame@host:65536",
        "amqp://u:sesame@host:-1",
        "amqp://u:sesame@host:0005672999",
        "amqp://u:sesame@host:٣",
        "amqp://u:sesame@host:5672:1",
        "amqp://u:sesame@::1",
        "amqp://u:sesame@[::1",
        "amqp://u:sesame@[host]",
        "amqp://u:sesame@[127.0.0.1]",
        "amqp://u:sesame@[::1]5672",
        "amqp://u:sesame@ho st",
        "amqp://u:sesame@ho%0ast",
        "amqp://u:sesame%@host",
        "amqp://u:sesame%zz@host",
        "amqp://u:sesame%ff@host",
        "amqp://u:sesame@host/" + "v" * 256,
        "amqp://u:ses,ame@host",
        "amqp://host,sesame",
        "amqp://host,",
    ],
)
def test_a_wrong_url_is_refused_without_quoting_any_of_it(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(url)
    text = str(caught.value)
    assert "ses" not in text
    assert "ame@" not in text
    assert text.endswith(".")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(
    st.builds(
        Address,
        host=HOSTS,
        port=st.integers(1, 65535),
        vhost=WORDS.filter(lambda name: 0 < len(name.encode()) <= 255),  # a URL can't say ""
        username=WORDS,
        password=WORDS,
        tls=st.sampled_from([None, Tls(ca_file="ca.pem", verify=False)]),
    )
)
def test_an_address_survives_being_written_and_read(address: Address) -> None:
    assert parse(address.url(), address.tls) == (address,)


@given(st.builds(Address, host=HOSTS, vhost=WORDS, username=WORDS))
def test_a_masked_address_is_printable_ascii(address: Address) -> None:
    assert address.masked().isascii()
    assert address.masked().isprintable()


def test_a_password_is_neither_in_the_masked_url_nor_in_the_representation() -> None:
    address = Address("::1", vhost="a/b", username="ann@x", password="sesame")
    assert address.masked() == "amqp://ann%40x:***@[::1]:5672/a%2Fb"
    assert address.url() == "amqp://ann%40x:sesame@[::1]:5672/a%2Fb"
    assert "sesame" not in repr(address)
    assert "sesame" not in str(address)


def test_a_masked_host_cannot_command_the_terminal() -> None:
    assert "\x1b" not in Address(host="a\x1b[2J").masked()


def test_the_management_api_is_beside_the_broker() -> None:
    assert management_url(Address("a")) == "http://a:15672"
    assert management_url(Address("::1")) == "http://[::1]:15672"
    assert management_url(Address("a", tls=Tls())) == "https://a:15671"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.9.9.9", "::1"]
)
def test_the_loopback_is_local(host: str) -> None:
    assert is_local(host)


def test_a_mapped_loopback_is_local() -> None:
    assert is_local("::ffff:127.0.0.1")
    assert not is_local("::ffff:10.0.0.1")


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "rabbit", "localhost.example.com", "0.0.0.1", "::", "", "127.0.0.1.nip.io"]
)
def test_everything_else_is_not_local(host: str) -> None:
    assert not is_local(host)
