"""How each fault is carried out, by what it hits; ``faults`` puts them together."""
