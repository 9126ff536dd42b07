"""Fetching, with an apt-get and a dpkg of the test's own first on PATH."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rabbitproof.broker import apt
from rabbitproof.errors import InstallError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is no apt elsewhere")

APT = """#!/bin/sh
echo "$@" >>"$FAKE/calls"
env >"$FAKE/environment"
case "$*" in
*update*)  echo "E: Failed to fetch http://vendor.invalid" >&2; exit 100 ;;
*install*) [ -e "$FAKE/broken" ] && { echo "E: Unable to locate package" >&2; exit 100; }
           printf 'Inst %s (1)\\n' libc6 erlang-base erlang-ssl rabbitmq-server ;;
*download*) [ -e "$FAKE/unsigned" ] && { echo "E: There were unauthenticated" >&2; exit 100; }
           for name; do case $name in rabbitmq*|erlang*|lib*) : >"$name.deb" ;; esac; done ;;
esac
"""
DPKG = """#!/bin/sh
[ -e "$FAKE/full" ] && { echo "dpkg-deb: error: No space left on device" >&2; exit 2; }
name=$(basename "$2" .deb); mkdir -p "$3/unpacked"; : >"$3/unpacked/$name"
mkdir -p "$3/usr/lib/erlang/erts-1/bin" "$3/usr/lib/erlang/bin"
echo constant >"$3/usr/lib/erlang/bin/erl"; echo constant >"$3/usr/lib/erlang/erts-1/bin/erl"
[ "$name" = libc6 ] && : >"$3/unpacked/libmissing.so.1"
exit 0
"""
LDD = '#!/bin/sh\n[ -e "$FAKE/lacks" ] && echo "	libmissing.so.1 => not found"\nexit 0\n'


def silent(_line: str) -> None: ...


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "fake"
    folder.mkdir()
    for name, text in (("apt-get", APT), ("dpkg", DPKG), ("ldd", LDD)):
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "rabbitmq"


def test_only_rabbitmq_and_erlang_are_kept(fake: Path, target: Path) -> None:
    apt.fetch(target, silent)
    assert fake.is_dir()
    names = sorted(path.name for path in (target / "unpacked").iterdir())
    assert names == ["erlang-base", "erlang-ssl", "rabbitmq-server"]


def test_nothing_but_the_target_and_its_lock_is_left(fake: Path, target: Path) -> None:
    apt.fetch(target, silent)
    assert fake.is_dir()
    assert sorted(path.name for path in target.parent.iterdir()) == ["rabbitmq", "rabbitmq.lock"]


def test_apt_is_never_told_to_skip_a_check(fake: Path, target: Path) -> None:
    apt.fetch(target, silent)
    calls = (fake / "calls").read_text(encoding="utf-8")
    assert "allow-unauthenticated" not in calls
    assert "-c " in calls


def test_the_proxy_and_certificates_reach_apt(
    fake: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/corporate.pem")
    apt.fetch(target, silent)
    environment = (fake / "environment").read_text(encoding="utf-8").splitlines()
    assert "https_proxy=http://proxy.example:3128" in environment
    assert "SSL_CERT_FILE=/etc/corporate.pem" in environment


def test_both_start_scripts_of_erlang_are_replaced(fake: Path, target: Path) -> None:
    apt.fetch(target, silent)
    assert fake.is_dir()
    for script in ("bin/erl", "erts-1/bin/erl"):
        text = (target / "usr/lib/erlang" / script).read_text(encoding="utf-8")
        assert "constant" not in text.splitlines()
        assert f"ERL_ROOTDIR:-{target}/usr/lib/erlang" in text
        assert "/erts-1/bin" in text


def test_a_second_fetch_does_nothing(fake: Path, target: Path) -> None:
    apt.fetch(target, silent)
    calls = (fake / "calls").read_text(encoding="utf-8")
    apt.fetch(target, silent)
    assert (fake / "calls").read_text(encoding="utf-8") == calls


def test_two_at_once_fetch_once(fake: Path, target: Path) -> None:
    code = "from pathlib import Path; from rabbitproof.broker import apt; import sys; "
    code += "apt.fetch(Path(sys.argv[1]), print)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(target)], env=environment)
        for _ in range(2)
    ]
    assert [process.wait(60) for process in both] == [0, 0]
    calls = (fake / "calls").read_text(encoding="utf-8")
    assert calls.count("download") == 1


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ("broken", "could not provide rabbitmq-server .*vendor.*sudo apt-get install"),
        ("unsigned", "could not download .*unauthenticated.*try again"),
        ("full", "No space left on device.*RABBITPROOF_CACHE"),
    ],
)
def test_trouble_is_one_sentence_and_leaves_no_half_cache(
    trouble: str, sentence: str, fake: Path, target: Path
) -> None:
    (fake / trouble).touch()
    with pytest.raises(InstallError, match=sentence) as failure:
        apt.fetch(target, silent)
    assert "\n" not in str(failure.value)
    assert [path.name for path in target.parent.iterdir()] == ["rabbitmq.lock"]
    (fake / trouble).unlink()
    apt.fetch(target, silent)
    assert target.is_dir()


def test_what_a_killed_fetch_left_is_removed(fake: Path, target: Path) -> None:
    assert fake.is_dir()
    stale = target.parent / "rabbitmq.abc.part"
    stale.mkdir(parents=True)
    apt.fetch(target, silent)
    assert not stale.exists()


def test_too_little_room_is_said_before_anything_is_fetched(
    fake: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "_ROOM", 10**18)
    with pytest.raises(InstallError, match="MB are free"):
        apt.fetch(target, silent)
    assert not (fake / "calls").exists()


def test_a_cache_that_cannot_be_written_is_said(fake: Path, tmp_path: Path) -> None:
    assert fake.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(InstallError, match="RABBITPROOF_CACHE"):
        apt.fetch(tmp_path / "file" / "rabbitmq", silent)


def test_a_library_that_the_machine_lacks_is_added(fake: Path, target: Path) -> None:
    (fake / "lacks").touch()
    apt.fetch(target, silent)
    assert (target / apt.LIBRARIES / "libmissing.so.1").exists()
