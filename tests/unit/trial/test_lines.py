"""Where a key stands in a TOML text."""

from __future__ import annotations

from rabbitproof.trial.lines import find_lines, line_of

TEXT = '''title = "x"  # a comment
teaches = """
count = 3
"""
[workload]
count = 3
"quoted key" = 1
[topology.work]
arguments = { x-a = 1 }
[[faults]]
name = "a"
[[faults]]
# [no.table]
name = "b"
[expect.work]
dropped.expired = 1
'''


def test_every_key_has_its_line() -> None:
    """Tables, keys, quoted and dotted ones, entries of arrays; not what a long text says."""
    lines = find_lines(TEXT)
    assert lines == {
        ("title",): 1,
        ("teaches",): 2,
        ("workload",): 5,
        ("workload", "count"): 6,
        ("workload", "quoted key"): 7,
        ("topology", "work"): 8,
        ("topology", "work", "arguments"): 9,
        ("faults", 0): 10,
        ("faults", 0, "name"): 11,
        ("faults", 1): 12,
        ("faults", 1, "name"): 14,
        ("expect", "work"): 15,
        ("expect", "work", "dropped", "expired"): 16,
    }


def test_what_has_no_line_has_that_of_its_table() -> None:
    """A missing key is pointed at where it would stand."""
    lines = find_lines(TEXT)
    assert line_of(lines, ("workload", "prefetch")) == 5
    assert line_of(lines, ("topology", "work", "arguments", "x-a")) == 9
    assert line_of(lines, ("nothing",)) is None
