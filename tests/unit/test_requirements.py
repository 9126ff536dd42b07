"""requirements.txt and requirements-dev.txt pin exactly what pyproject.toml asks for.

What a distribution requires is read from its installed metadata, so nothing is downloaded. A
requirement under a condition (a platform, a Python) counts as allowed everywhere, and as
needed where the condition holds: one lock serves Linux, macOS and Windows.
"""

import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
DEV = [Requirement(text) for text in PROJECT["optional-dependencies"]["dev"]]
LOCKS = {"requirements.txt": RUNTIME, "requirements-dev.txt": RUNTIME + DEV}


def read_lock(text: str) -> dict[str, Version]:
    """Return name and version of each line; every line must be one exact pin."""
    pins = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        requirement = Requirement(line)
        (only,) = requirement.specifier
        assert only.operator == "=="
        assert requirement.url is None
        pins[canonicalize_name(requirement.name)] = Version(only.version)
    return pins


def required_by(requirement: Requirement) -> Iterable[tuple[Requirement, bool]]:
    """Yield what a distribution requires, and whether it does so here."""
    try:
        texts = requires(requirement.name) or []
    except PackageNotFoundError:  # for another platform: nothing is known of it here
        texts = []
    for text in texts:
        inner = Requirement(text)
        marker = inner.marker
        extras = requirement.extras or {""}
        if marker is None:
            yield inner, True
        elif "extra" not in str(marker):
            yield inner, marker.evaluate()
        elif any(marker.evaluate({"extra": extra}) for extra in extras):
            yield inner, True


def problems(direct: list[Requirement], pins: dict[str, Version]) -> list[str]:
    """Return what is wrong with a lock of these requirements, each as a sentence."""
    found = []
    seen: set[tuple[str, frozenset[str], bool]] = set()
    queue = [(requirement, True) for requirement in direct]
    while queue:
        requirement, needed = queue.pop()
        name = canonicalize_name(requirement.name)
        version = pins.get(name)
        if version is None and needed:
            found.append(f"{name} is not pinned; run `make lock`.")
        if version is not None and needed and version not in requirement.specifier:
            found.append(f"{name}=={version} is not {requirement.specifier}; run `make lock`.")
        asked = (name, frozenset(requirement.extras), needed)
        if asked not in seen:
            seen.add(asked)
            queue += [(inner, needed and here) for inner, here in required_by(requirement)]
    unasked = pins.keys() - {name for name, _, _ in seen}
    found += [f"nothing asks for {name}; run `make lock`." for name in unasked]
    return sorted(set(found))


@pytest.fixture(params=LOCKS)
def lock(request: pytest.FixtureRequest) -> tuple[list[Requirement], str]:
    return LOCKS[request.param], (ROOT / request.param).read_text("utf-8")


def test_a_lock_pins_what_the_project_asks_for_and_nothing_else(
    lock: tuple[list[Requirement], str],
) -> None:
    direct, text = lock
    assert problems(direct, read_lock(text)) == []


def test_a_lock_names_no_machine_and_no_server(lock: tuple[list[Requirement], str]) -> None:
    _, text = lock
    for word in ("://", "file:", "--index", "--extra-index", "--find-links", " @ ", "/"):
        assert word not in text.replace("make lock", "")


def test_both_locks_pin_the_same_versions() -> None:
    runtime, dev = (read_lock((ROOT / name).read_text("utf-8")) for name in LOCKS)
    assert runtime.items() <= dev.items()


def test_a_dependency_that_is_not_pinned_is_found(lock: tuple[list[Requirement], str]) -> None:
    direct, text = lock
    pins = read_lock(text)
    assert problems([*direct, Requirement("leftpad>=1")], pins) == [
        "leftpad is not pinned; run `make lock`."
    ]
    del pins["httpcore"]
    assert problems(direct, pins) == ["httpcore is not pinned; run `make lock`."]


def test_a_range_that_moved_away_from_its_pin_is_found(
    lock: tuple[list[Requirement], str],
) -> None:
    direct, text = lock
    (found,) = problems([*direct, Requirement("httpx>=99")], read_lock(text))
    assert found.startswith("httpx==")


def test_a_pin_that_nothing_asks_for_is_found(lock: tuple[list[Requirement], str]) -> None:
    direct, text = lock
    pins = read_lock(text + "\nleftpad==1.0\n")
    assert problems(direct, pins) == ["nothing asks for leftpad; run `make lock`."]
    fewer = [requirement for requirement in direct if requirement.name != "psutil"]
    assert problems(fewer, read_lock(text)) == ["nothing asks for psutil; run `make lock`."]


@pytest.mark.parametrize("line", ["httpx>=0.28", "httpx", "httpx @ https://h/httpx.whl"])
def test_a_line_that_is_no_exact_pin_is_found(line: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        read_lock(line)
