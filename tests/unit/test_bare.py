"""What of the README is typed on a bare machine."""

from pathlib import Path

from outside.bare import steps

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def test_it_is_all_that_is_typed_and_nothing_that_is_printed() -> None:
    said = """
## Step by step

By hand:

    . .venv/bin/activate     # on Windows: another

    python src/producer.py --count 10

    [producer] published 10/10
    [producer] done.

Or `python src/monitor.py`.

    python src/consumer.py
## The commands

    python other.py
"""
    assert [line for line in steps(said).splitlines() if not line.startswith("echo ")] == [
        "set -e",
        ". .venv/bin/activate     # on Windows: another",
        "python src/producer.py --count 10",
        "python src/consumer.py",
    ]


def test_the_readme_has_steps_from_a_broker_over_a_million_messages_to_its_end() -> None:
    typed = steps(README)
    assert typed.index("broker up") < typed.index("--count 1000000") < typed.index("broker down")
