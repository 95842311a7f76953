"""What the authorization server takes back is refused where it would be used, on a worker that only heard of it."""

import pytest

from gateway.demo.client import CallFailed
from tests.conftest import World

ACCOUNTS = "/open-banking/v4.0/aisp/accounts"


async def test_a_revoked_token_is_refused_at_the_resource(world: World) -> None:
    client = world.client("parkco")
    token = await world.customer_token("accounts")
    assert (await client.call("GET", ACCOUNTS, token=token)).status_code == 200
    gone = await world.http.post("/oauth/revoke", data={"token": token.value, **client.assertion()})
    assert gone.status_code == 200, gone.text
    await world.house.foundation.feed.catch_up()
    assert (await client.call("GET", ACCOUNTS, token=token)).status_code == 401


async def test_deleting_the_consent_takes_its_tokens_with_it(world: World) -> None:
    client = world.client("parkco")
    token = await world.customer_token("accounts")
    [consent_id] = (await world.sql("SELECT consent_id FROM consent"))[0]
    deleted = await client.call("DELETE", f"/open-banking/v4.0/aisp/account-access-consents/{consent_id}")
    assert deleted.status_code == 204, deleted.text
    await world.house.foundation.feed.catch_up()
    assert (await client.call("GET", ACCOUNTS, token=token)).status_code == 401


async def test_a_code_used_twice_takes_the_first_uses_token_with_it(world: World) -> None:
    client = world.client("parkco")
    await world.customer_token("accounts")
    [consent_id] = (await world.sql("SELECT consent_id FROM consent"))[0]
    await world.http.post(f"/sandbox/v1/consents/{consent_id}/authorisation")
    address, verifier = await client.push(consent_id, kind="account-access-consent", scope="accounts")
    callback = (await world.http.get(address)).headers["location"]
    token = await client.exchange(callback, verifier)
    assert (await client.call("GET", ACCOUNTS, token=token)).status_code == 200
    again = await world.http.post("/oauth/token", data={"grant_type": "authorization_code", **client.assertion()})
    assert again.status_code == 400  # no proof: nothing is spent, nothing revoked
    assert (await client.call("GET", ACCOUNTS, token=token)).status_code == 200
    with pytest.raises(CallFailed, match="invalid_grant"):
        await client.exchange(callback, verifier)
    await world.house.foundation.feed.catch_up()
    assert (await client.call("GET", ACCOUNTS, token=token)).status_code == 401
