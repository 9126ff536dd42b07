"""An experiment: a scenario carried out from start to verdict."""
