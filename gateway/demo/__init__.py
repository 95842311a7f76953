"""The demonstration: a partner's client made of public libraries only, and the whole journey driven with it."""
