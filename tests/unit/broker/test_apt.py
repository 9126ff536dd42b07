"""Fetching, with an apt and a dpkg of the test's own first on PATH."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from rabbitproof.broker import apt
from rabbitproof.errors import InstallError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is no apt elsewhere")

# What each suite offers is in $FAKE/offers/SUITE; one without such a file can't be asked.
APT = """#!/bin/sh
echo "$@" >>"$FAKE/calls"
env >"$FAKE/environment"
config=$2
suite=$(sed -n 's/^Suites: //p' "${config%/*}/ours.sources" 2>/dev/null || true)
offer="$FAKE/offers/${suite:-own}"
case "$*" in
*indextargets*) echo "main stable http://other.invalid/stable"
           echo "main bookworm http://mirror.invalid/debian/" ;;
*update*)  [ -e "$FAKE/offline" ] && { echo "W: Failed to fetch http://x" >&2; exit 0; }
           [ -e "$FAKE/release" ] && cp "$FAKE/release" "${config%/*}/lists/x_InRelease"
           [ -e "$offer" ] || { echo "E: Failed to fetch $suite" >&2; exit 100; } ;;
*policy*)  [ -s "$offer" ] && printf 'rabbitmq-server:\\n  Candidate: %s-1\\n' "$(cat "$offer")" ;;
*simulate*) [ -e "$FAKE/broken" ] && { echo "E: Unmet dependencies" >&2; exit 100; }
           printf 'Inst %s (1)\\n' libc6 libssl3 perl libperl erlang-base erlang-ssl \
             rabbitmq-server ;;
*depends*) cat <<END
erlang-base
  Depends: libc6
 |Depends: perl
erlang-ssl
  PreDepends: erlang-base
  Depends: libssl3:any
perl
  Depends: libperl
END
;;
*print-uris*) printf "'http://x/%s.deb' %s.deb 1000000 SHA256:0\\n" a a b b ;;
*download*) [ -e "$FAKE/unsigned" ] && { echo "E: There were unauthenticated" >&2; exit 100; }
           shift 4; for name; do : >"$name.deb"; done ;;
esac
exit 0
"""
DPKG = """#!/bin/sh
[ -e "$FAKE/full" ] && { echo "dpkg-deb: error: No space left on device" >&2; exit 2; }
name=$(basename "$2" .deb); mkdir -p "$3/unpacked"; : >"$3/unpacked/$name"
mkdir -p "$3/usr/lib/erlang/erts-1/bin" "$3/usr/lib/erlang/bin" "$3/usr/lib/x-linux-gnu"
[ "$name" = erlang-base ] || exit 0
printf '#!/bin/sh\\necho "$@"\\n' >"$3/usr/lib/x-linux-gnu/ld-linux-x.so.2"
printf '\\177ELF' >"$3/usr/lib/erlang/erts-1/bin/beam.smp"
echo constant >"$3/usr/lib/erlang/bin/erl"; echo constant >"$3/usr/lib/erlang/erts-1/bin/erl"
chmod +x "$3"/usr/lib/*/ld-* ; mkdir -p "$3/lib/x-linux-gnu"
exit 0
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which ``testing`` offers 4.3.6 and ``stable`` 4.0.5."""
    folder = tmp_path / "fake"
    (folder / "offers").mkdir(parents=True)
    for name, text in (("apt-get", APT), ("apt-cache", APT), ("dpkg", DPKG)):
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    for suite, version in (("testing", "4.3.6"), ("stable", "4.0.5")):
        (folder / "offers" / suite).write_text(version)
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(apt.MIRROR_VARIABLE, "http://named.invalid/debian")
    return folder


def calls(fake: Path, what: str) -> list[str]:
    return [line for line in (fake / "calls").read_text().splitlines() if what in line]


def first(work: Path) -> apt.Offer:
    offer = next(iter(apt.offers(work)))
    assert isinstance(offer, apt.Offer)
    return offer


def test_the_suites_are_asked_in_turn_and_the_system_last(fake: Path, tmp_path: Path) -> None:
    (fake / "offers/oldstable").touch()
    (fake / "offers/own").write_text("3.12.1")
    told = [
        (one.where, one.version) if isinstance(one, apt.Offer) else "failed"
        for one in apt.offers(tmp_path / "work")
    ]
    assert told == [
        ("Debian testing", "4.3.6"),
        ("Debian stable", "4.0.5"),
        ("Debian oldstable", None),
        *("failed", "failed"),
        ("this system's own packages", "3.12.1"),
    ]


def test_a_suite_that_serves_needs_no_other(fake: Path, tmp_path: Path) -> None:
    assert first(tmp_path / "work").version == "4.3.6"
    assert len(calls(fake, "update")) == 1


def test_an_apt_that_goes_on_without_an_answer_was_not_answered(fake: Path, tmp_path: Path) -> None:
    (fake / "offline").touch()
    (fake / "offers/own").touch()
    told = list(apt.offers(tmp_path / "work"))
    assert all(isinstance(one, InstallError) and "Failed to fetch" in str(one) for one in told)


def test_the_mirror_is_the_systems_own(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fake.is_dir()
    monkeypatch.delenv(apt.MIRROR_VARIABLE)
    if "ID=debian" in (apt.Path("/etc/os-release")).read_text():
        assert apt.Mirror(tmp_path / "work").uri == "http://mirror.invalid/debian/"


def test_only_rabbitmq_erlang_and_its_libraries_are_taken(fake: Path, tmp_path: Path) -> None:
    offer = first(tmp_path / "work")
    offer.choose()
    assert offer.size == 2_000_000
    offer.fetch(tmp_path / "root")
    names = sorted(path.name for path in (tmp_path / "root/unpacked").iterdir())
    assert names == ["erlang-base", "erlang-ssl", "libc6", "libssl3", "rabbitmq-server"]
    assert fake.is_dir()


def test_apt_is_never_told_to_skip_a_check(fake: Path, tmp_path: Path) -> None:
    offer = first(tmp_path / "work")
    offer.choose()
    offer.fetch(tmp_path / "root")
    assert not calls(fake, "allow")
    assert all(line.startswith("-c ") for line in calls(fake, ""))
    source = (tmp_path / "work/testing/ours.sources").read_text()
    assert "Signed-By: /" in source
    assert "URIs: http://named.invalid/debian\n" in source
    settings = (tmp_path / "work/testing/apt.conf").read_text()
    assert 'AllowUnauthenticated "false"' in settings
    assert 'AllowInsecureRepositories "false"' in settings


@pytest.mark.parametrize(
    ("until", "where"),
    [
        ("2026", "Debian testing as of 30 October 2026"),
        ("2999", "Debian testing"),
        ("?", "Debian testing"),
    ],
)
def test_a_mirror_that_is_behind_is_used_and_said(
    until: str, where: str, fake: Path, tmp_path: Path
) -> None:
    (fake / "release").write_text(
        "-----BEGIN PGP SIGNED MESSAGE-----\n\nSuite: testing\n"
        "Date: Fri, 30 Oct 2026 08:08:01 UTC\n"
        f"Valid-Until: Fri, 06 Nov {until} 08:08:01 UTC\n"
    )
    assert first(tmp_path / "work").where == where


def test_the_proxy_and_certificates_reach_apt(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/corporate.pem")
    first(tmp_path / "work")
    environment = (fake / "environment").read_text(encoding="utf-8").splitlines()
    assert "https_proxy=http://proxy.example:3128" in environment
    assert "SSL_CERT_FILE=/etc/corporate.pem" in environment


def test_erlang_starts_through_the_library_that_came_with_it_wherever_it_is(
    fake: Path, tmp_path: Path
) -> None:
    assert fake.is_dir()
    offer = first(tmp_path / "work")
    offer.choose()
    offer.fetch(tmp_path / "root")
    moved = (tmp_path / "root").rename(tmp_path / "else where")
    emulator = moved / "usr/lib/erlang/erts-1/bin"
    said = subprocess.run(
        [emulator / "beam.smp", "-x", "a b"], capture_output=True, text=True, check=True
    ).stdout
    option, path, program, *arguments = said.replace(str(moved), "/moved").split()
    assert (option, arguments) == ("--library-path", ["-x", "a", "b"])
    assert os.path.normpath(program) == "/moved/usr/lib/erlang/erts-1/bin/beam.smp.elf"
    assert [os.path.normpath(one) for one in path.split(":")] == [
        *("/moved/usr/lib/x-linux-gnu", "/moved/lib/x-linux-gnu"),
    ]
    for script in ("bin/erl", "erts-1/bin/erl"):
        text = (moved / "usr/lib/erlang" / script).read_text(encoding="utf-8")
        assert "constant" not in text.splitlines()
        assert str(tmp_path) not in text
        assert "/erts-1/bin" in text


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ("broken", "not all that it needs.*Unmet"),
        ("unsigned", "could not download .*unauthenticated.*try again"),
        ("full", "No space left on device.*RABBITPROOF_CACHE"),
    ],
)
def test_trouble_is_one_sentence(trouble: str, sentence: str, fake: Path, tmp_path: Path) -> None:
    (fake / trouble).touch()
    offer = first(tmp_path / "work")

    def get() -> None:
        offer.choose()
        offer.fetch(tmp_path / "root")

    with pytest.raises(InstallError, match=sentence) as failure:
        get()
    assert "\n" not in str(failure.value)


def test_packages_without_an_erlang_are_reported(tmp_path: Path) -> None:
    tmp_path.joinpath("usr").mkdir()
    with pytest.raises(InstallError, match="no Erlang"):
        apt._relocate(tmp_path)


def test_too_little_room_is_said(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=r"MB are free.*RABBITPROOF_CACHE"):
        apt.check_room(tmp_path, 10**18)
