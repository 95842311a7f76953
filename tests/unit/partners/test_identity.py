"""Identity tokens: one spelling of a phone, one token a partner and epoch, known answers of HMAC-SM3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.partners.identity import (
    TOKEN_PATTERN,
    IdentityKey,
    PhoneHasher,
    PhoneMalformed,
    identity_token,
    identity_tokens,
    normalise_phone,
)

KEY = IdentityKey("parkco", 1, bytes(range(32)), 0)
PHONE = "+8613800138000"


@pytest.mark.parametrize(
    "text",
    [
        "13800138000",
        "138-0013-8000",
        "+86 138 0013 8000",
        "0086 13800138000",
        "8613800138000",
        "１38００１３８０００",
    ],
)
def test_every_spelling_of_a_chinese_mobile_number_is_one_number(text: str) -> None:
    assert normalise_phone(text) == PHONE


def test_a_number_from_abroad_keeps_its_country() -> None:
    assert normalise_phone("+44 20 7946 0018") == "+442079460018"


@pytest.mark.parametrize("text", ["", "12800138000", "1380013800", "138001380000", "+8612345678901", "+012345678", "x"])
def test_what_is_no_phone_number_is_refused(text: str) -> None:
    with pytest.raises(PhoneMalformed):
        normalise_phone(text)


@given(st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True))
def test_normalising_twice_changes_nothing(phone: str) -> None:
    once = normalise_phone(phone)
    assert normalise_phone(once) == once == f"+86{phone}"


def test_a_token_is_hmac_sm3_of_the_phone() -> None:
    """Recomputed by RFC 2104 from the bare hash, as a partner without an HMAC of SM3 would."""
    from cryptography.hazmat.primitives import hashes

    def sm3(data: bytes) -> bytes:
        digest = hashes.Hash(hashes.SM3())
        digest.update(data)
        return digest.finalize()

    block = KEY.key.ljust(64, b"\0")
    inner = sm3(bytes(b ^ 0x36 for b in block) + PHONE.encode())
    outer = sm3(bytes(b ^ 0x5C for b in block) + inner)
    from base64 import urlsafe_b64encode

    token = "idt_1_" + urlsafe_b64encode(outer).decode().rstrip("=")
    hasher = PhoneHasher()
    assert [identity_token(KEY, PHONE), hasher.token(KEY, PHONE), hasher.token(KEY, PHONE)] == [token] * 3


def test_tokens_of_two_partners_and_of_two_epochs_have_nothing_in_common() -> None:
    import re

    other = IdentityKey("shopco", 1, bytes(32), 0)
    later = IdentityKey("parkco", 2, bytes([7] * 32), 0)
    pairs = identity_tokens([KEY, later, other], [PHONE])[PHONE]
    assert [partner for partner, _ in pairs] == ["parkco", "parkco", "shopco"]
    digests = {token.split("_", 2)[2] for _, token in pairs}
    assert len(digests) == 3
    assert all(re.search(TOKEN_PATTERN, token) for _, token in pairs)


def test_a_key_does_not_show_itself() -> None:
    assert KEY.key.hex() not in repr(KEY)
    assert repr(KEY.key) not in repr(KEY)
