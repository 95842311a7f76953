"""`make bench-growth`: the curves of what grows, one after the other, each in a process of its own.

    python -m bench.curves [NAME | NAME=SIZE,SIZE …]       all of them at their own sizes where none is named
For example `make bench-growth CURVES="growth=1000000,10000000 partners=500"`.
"""

import subprocess
import sys
from collections.abc import Sequence

CURVES = {  # each is a module of this folder that takes its sizes as arguments and prints its figures
    "growth": "closing, calculating and verifying as events grow",
    "partners": "apply, a cold load and a suspension as partners grow",
    "goals": "goals a second, the loop's blocking and a big file's delay as partners grow",
    "rows": "what a redemption stores and logs, and how fast pairs are among a million",
}


class CurveUnknown(Exception):
    """There is no such curve; the text names those that are."""


def commands(asked: Sequence[str]) -> list[list[str]]:
    """The modules to run with their sizes, in the order asked for. Raises CurveUnknown before any has begun."""
    wanted = [each.partition("=") for each in asked] or [(name, "", "") for name in CURVES]
    if strange := [name for name, _, _ in wanted if name not in CURVES]:
        raise CurveUnknown(f"No curve {', '.join(strange)}; known: {', '.join(CURVES)}")
    return [[f"bench.{name}", *filter(None, sizes.split(","))] for name, _, sizes in wanted]


def main(asked: Sequence[str]) -> int:
    """0 when each ran to its end."""
    try:
        runs = commands(asked)
    except CurveUnknown as error:
        print(error, file=sys.stderr)
        return 2
    failed = False
    for module, *sizes in runs:
        print(f"\n{module.removeprefix('bench.')}: {CURVES[module.removeprefix('bench.')]}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", module, *sizes], check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
