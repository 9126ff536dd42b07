"""What a participant does: produce, consume. Yields progress, prints nothing."""
