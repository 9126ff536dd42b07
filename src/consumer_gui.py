"""`python src/consumer_gui.py …` is `rabbitproof window …`."""

from rabbitproof.cli.exits import main
from rabbitproof.cli.window import app

if __name__ == "__main__":
    main(app, "consumer_gui.py")
