"""``python -m rabbitproof`` is the same as ``rabbitproof``."""

from rabbitproof.cli.main import main

if __name__ == "__main__":
    main()
