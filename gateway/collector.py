"""Python's cyclic collector in a program that has started: what lives for good is not looked through again and again.

Requests free what they make by counting references; the collector only finds cycles, and by default it looks for them
at every 700 new objects, through all that a worker keeps (partners, contracts, policies, code).
"""

import gc

YOUNG = 50_000  # new objects between two looks: what a few hundred open requests hold, some 10 MB if all were cycles
MIDDLE, OLD = 20, 50  # looks at the young before one at the middle, and at those before one at everything


def pass_over_what_is_here() -> None:
    """Called once, when a program is ready: all of now is set aside, and looks at what comes are rarer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
