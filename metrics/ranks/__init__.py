"""How many dimensions a representation uses, by each definition of rank in use, and how large it is."""

from metrics.ranks.effective import EffectiveRank, effective_rank

__all__ = ["EffectiveRank", "effective_rank"]
