"""Populations: many agents trained at once in one process, each an ordinary SB3 model."""

from agents.population.interventions import blocked
from agents.population.population import Population, stackable
from agents.population.streams import Streams

__all__ = ["Population", "Streams", "blocked", "stackable"]
