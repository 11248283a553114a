"""Search of a space for the architecture that ranks best, under budgets."""
