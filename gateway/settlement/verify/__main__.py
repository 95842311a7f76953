"""Runs the folder alone: `python -m verify FILE… --jwks FILE`, from where the folder lies."""

import sys

from .command import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
