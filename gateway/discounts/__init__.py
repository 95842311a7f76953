"""Co-funded discounts: quote, hold, confirm, reverse; never overspent."""
