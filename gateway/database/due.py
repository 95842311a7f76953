"""What is looked at again later: when its time has come."""


def is_due(column: str, *, now: str, longest_ms: str) -> str:
    """SQL over a column of epoch ms, `now` and the longest wait of its kind in ms, each an expression of our own.

    A time further ahead than any wait was set by a clock that has gone back since: it is due too.
    """
    return f"({column} <= {now} OR {column} > {now} + {longest_ms})"
