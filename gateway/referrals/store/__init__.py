"""All SQL of referrals: batches, links, claims and goals, each in its module."""
