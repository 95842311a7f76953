"""Checks statements offline, every cent and every proof, without the bank's program.

For the partner: copy this folder anywhere, `pip install cryptography` (Python 3.11 or later), and run
`python -m verify FILE… [--jwks FILE]`. It is written from docs/settlement-rules.md (the § in it) alone, in plain Python
integers, and imports nothing else of the gateway; the bank's own calculation is another program in another language.

To be read in this order: canonical (JSON), proof (signatures, trees), terms (contracts), reckoning (events to lines),
sealed (days), statement (a file), series (several), command (people).
"""

from .command import main
from .series import FileReport, Report, Signer, Unusable, verify_files

__all__ = ["FileReport", "Report", "Signer", "Unusable", "main", "verify_files"]
