"""`python src/monitor.py …` is `rabbitproof monitor …`."""

from rabbitproof.cli.exits import main
from rabbitproof.cli.monitor import app

if __name__ == "__main__":
    main(app, "monitor.py")
