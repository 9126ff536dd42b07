"""`python src/producer.py …` is `rabbitproof produce …`."""

from rabbitproof.cli.produce import app

from rabbitproof.cli.exits import main

if __name__ == "__main__":
    main(app, "producer.py")
