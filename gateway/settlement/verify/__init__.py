"""Checks statements offline, every cent and every proof, without the bank's program.

For the partner: copy this folder anywhere, `pip install cryptography msgspec` (Python 3.11 or later), and run
`python -m verify FILE… --jwks KEYS --partner ID`. It is written from docs/settlement-rules.md (the § in it) alone, in
plain Python integers, and imports nothing else of the gateway; the bank's own calculation is another program in another
language.

To be read in this order: canonical (JSON), download (the file), manifest, proof (signatures, trees), documents and
terms (contracts), facts (events to lines), part and workers (side by side), joins and accrued (far apart), reckoning
(what runs through), statement (a file), series (several), pins (whose), command (people).
"""

from .command import main
from .pins import Unusable
from .series import FileReport, Report, Signer, verify_files

__all__ = ["FileReport", "Report", "Signer", "Unusable", "main", "verify_files"]
