"""`python src/producer.py …` is `rabbitproof produce …`."""

from rabbitproof.cli.exits import main
from rabbitproof.cli.produce import app

if __name__ == "__main__":
    main(app, "producer.py")
