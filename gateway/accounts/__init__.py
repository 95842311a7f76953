"""Account information (AISP): accounts, balances, transactions under a consent."""
