"""How we know: ledgers of what was sent and seen, and the verdict over them. All pure."""
