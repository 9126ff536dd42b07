"""Random runs, written as files and judged; what the verdict may say follows from what happened."""
