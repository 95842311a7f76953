"""What our own verifier says of a file that was just made, whatever its size and whatever becomes of its process."""

from pathlib import Path

import pytest

from gateway.settlement.own_verification import LARGE_BYTES, VerifierLost, refusals
from tests.unit.settlement.made import PUBLIC

JWKS = {"keys": [PUBLIC]}


@pytest.mark.parametrize("size", [100, LARGE_BYTES], ids=["small", "large: by a process of its own"])
async def test_what_is_no_statement_is_refused_in_words(tmp_path: Path, size: int) -> None:
    path = tmp_path / "stm_1.statement"
    with path.open("wb") as file:
        file.truncate(size)
    (fault,) = await refusals([path], JWKS)
    assert "this is not a statement" in fault


async def test_a_verifier_that_ends_without_a_word_accepts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "stm_1.statement"
    with path.open("wb") as file:
        file.truncate(LARGE_BYTES)
    with pytest.raises(VerifierLost, match="ended with status 1"):
        await refusals([path], {"keys": "none"})
