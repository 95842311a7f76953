"""All SQL of parking."""
