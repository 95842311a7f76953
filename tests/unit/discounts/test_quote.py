"""Quotes: a price that is promised for a few minutes, proves itself, and is for its own order and partner only."""

import pytest

from gateway.database import Database
from gateway.discounts.quote import QuoteDiffers, QuoteExpired, QuoteNotOurs
from tests.desks import NOW_MS, ONE_FEN, contract, desk_with, occasion


async def test_a_quote_keeps_its_terms_until_it_expires_and_nobody_can_change_it(database: Database) -> None:
    desk = desk_with(database, contract(ONE_FEN))
    quote = desk.quote("parkco", "first-park", occasion=occasion(1200), now_ms=NOW_MS)
    text = desk.sealed(quote)
    assert desk.unsealed(text, partner_id="parkco", now_ms=NOW_MS) == quote
    with pytest.raises(QuoteExpired):
        desk.unsealed(text, partner_id="parkco", now_ms=quote.expires_ms)
    with pytest.raises(QuoteNotOurs):
        desk.unsealed(text, partner_id="shopco", now_ms=NOW_MS)
    for place in (5, len(text) // 2, len(text) - 3):
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        with pytest.raises(QuoteNotOurs):
            desk.unsealed(changed, partner_id="parkco", now_ms=NOW_MS)
    with pytest.raises(QuoteDiffers):
        quote.check_same("first-park", occasion(1300))


async def test_offers_are_those_that_apply_the_largest_first(database: Database) -> None:
    ten_off = {"id": "ten", "title": "Ten off", "kind": "amount_off", "off_minor": 1000, "fund": ONE_FEN["fund"]}
    sunday = {**ten_off, "id": "sunday", "when": {"weekday": [7]}}
    desk = desk_with(database, contract(sunday, ten_off, ONE_FEN))
    assert [q.discount_id for q in desk.offers("parkco", occasion=occasion(1500), now_ms=NOW_MS)] == [
        "first-park",
        "ten",
    ]
    assert desk.offers("shopco", occasion=occasion(1500), now_ms=NOW_MS) == ()
