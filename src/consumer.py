"""`python src/consumer.py …` is `rabbitproof consume …`."""

from rabbitproof.cli.consume import app
from rabbitproof.cli.exits import main

if __name__ == "__main__":
    main(app, "consumer.py")
