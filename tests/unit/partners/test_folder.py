"""partners/ and policies/ are read whole or not at all: a no with file, key and reason for every rule."""

from base64 import urlsafe_b64encode
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from gateway.document import DocumentInvalid

PARTNER, CONTRACT = "partners/metro/partner.toml", "partners/metro/contract.toml"
POLICY, DEFAULT = "policies/trader.toml", "policies/default.toml"


def test_a_sound_folder_is_read_into_the_frozen_types(agreed: Any) -> None:
    folder = agreed.load()
    assert set(folder.policies) == {"default", "trader"}
    assert folder.partners["metro"].terms.app[0].client_id == "metro-server"
    assert [draft.contract.version for draft in folder.contracts] == [1]


FAULTS = [
    # file, old, new, key, part of the reason
    (PARTNER, 'trade = "metro"', 'trade = "metro"\nvip = true', "$.partner", "unknown field `vip`"),
    (PARTNER, 'trade = "metro"', "trade = 7", "$.partner.trade", "Expected `str`, got `int`"),
    (PARTNER, 'id = "metro"', 'id = "tram"', "$.partner.id", "the folder is metro"),
    (PARTNER, 'id = "metro"', 'id = "Metro!"', "$.partner.id", "matching regex"),
    (PARTNER, 'name = "Metro"\n', "", "$.partner", "missing required field `name`"),
    (PARTNER, 'use = "trader"', 'use = "nobody"', "$.policy.use", "there is no policies/nobody.toml"),
    (PARTNER, 'use = "trader"', 'use = "trader"\nallow = { operations = ["Pay"] }',
     "$.policy.allow.operations[0]", "'Pay' is not known"),
    (PARTNER, 'use = "trader"', 'use = "trader"\nallow = { bonus = 1 }', "$.policy.allow", "unknown field `bonus`"),
    (PARTNER, 'id = "line-2"', 'id = "line-1"', "$.site[1].id", "the id of another site"),
    (PARTNER, 'name = "Line 2"\nmcc = "4111"', 'name = "Line 2"\nmcc = "41"', "$.site[1].mcc", "matching regex"),
    (PARTNER, 'name = "Metro"\n', 'name = "Me\\u202Etro"\n', "$.partner.name", "holds U+202E"),
    (CONTRACT, '"A ride for one fen"', '"""A ride\nfor one fen"""', "$.discount[0].title", "holds U+000A"),
    (PARTNER, 'scopes = ["discounts"]', 'scopes = ["wishes"]', "$.app[0].scopes[0]", "does not open 'wishes'"),
    (PARTNER, 'scopes = ["discounts"]', 'scopes = ["parking"]', "$.app[0].scopes[0]", "does not open 'parking'"),
    (PARTNER, 'name = "Server"', 'name = "Server"\nauth_method = "client_secret_basic"',
     "$.app[0].auth_method", "known: private_key_jwt"),
    (PARTNER, 'name = "Server"', 'name = "Server"\nprofile = "own"', "$.app[0].profile", "known: fapi2"),
    (PARTNER, 'name = "Line 1"', 'name = "Line 1"\ncapacity = 1.5', "$.site[0].capacity", "is a float"),
    (POLICY, "burst = 20", 'burst = 20\nmood = "good"', "$.rate", "unknown field `mood`"),
    (POLICY, "burst = 20", "burst = 0", "$.rate.burst", ">= 1"),
    (POLICY, "per_second = 10", 'per_second = "10"', "$.rate.per_second", "Expected `int`"),
    (POLICY, '"HoldRedemption"]', '"Hold*"]', "$.allow.operations[1]", "'Hold*' is not known"),
    (POLICY, '"HoldRedemption"]', '"ListCampaigns"]', "$.allow.operations[1]", "named twice"),
    (POLICY, '"settlement"]', '"everything"]', "$.allow.scopes[1]", "'everything' is not known"),
    (POLICY, '["CNY"]', '["XAU"]', "$.allow.currencies[0]", "'XAU' is not known"),
    (POLICY, "10_000", "-1", "$.allow.max_amount_minor", ">= 0"),
    (POLICY, '["CNY"]', '["CNY"]\nnetworks = ["10.0.0.1/8"]', "$.allow.networks[0]", "is not a network"),
    (POLICY, "burst = 20", "burst = 20\n[operation_rate.Pay]\nper_second = 1\nburst = 1",
     "$.operation_rate.Pay", "'Pay' is not known"),
    (POLICY, 'id = "trader"', 'id = "dealer"', "$.policy.id", "the file is named trader.toml"),
    (POLICY, 'title = "Trader"', "title = ", "$", "is not TOML: Invalid value (at line 4, column 9)"),
    (POLICY, 'title = "Trader"', 'title = "Trader"\ntitle = "Trader"', "$", "Cannot overwrite a value (at line 5, "),
    (POLICY, 'title = "Trader"', f"title = {'[' * 5000}", "$", "nests deeper"),
    (POLICY, 'title = "Trader"', f"title.{'a.' * 5000}a = 1", "$", "nests deeper"),
    (PARTNER, "[policy]", "[partner]\nvip = true\n[policy]", "$", "Cannot declare ('partner',) twice (at line "),
    (DEFAULT, "scopes = []", 'scopes = ["discounts"]', "$.allow.scopes", "the default denies everything"),
    (DEFAULT, "max_amount_minor = 0", "max_amount_minor = 1", "$.allow.max_amount_minor", "denies everything"),
    (DEFAULT, "currencies = []\n", "", "$.allow.currencies", "is missing"),
    (DEFAULT, "[rate]\nper_second = 1\nburst = 1", "", "$.rate", "is missing"),
    (CONTRACT, 'site = ["line-1"]', 'site = ["line-9"]', "$.discount[0].when.site[0]", "not a site of metro"),
    (CONTRACT, "bps = 4_000", "bps = 4_001", "$.discount[0].fund", "10000 basis points"),
    (CONTRACT, "off_minor = 300", "off_minor = 299", "$.example[0]", "comes out as off_minor = 300"),
    (CONTRACT, "version = 1", 'version = 1\nsecret = "x"', "$.contract", "unknown field `secret`"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "key", "reason"), FAULTS)
def test_a_bad_line_is_refused_with_file_key_and_reason(
    agreed: Any, file: str, old: str, new: str, key: str, reason: str
) -> None:
    agreed.edit(file, old, new)
    with pytest.raises(DocumentInvalid) as refused:
        agreed.load()
    assert (refused.value.file, refused.value.key) == (file, key)
    assert reason in refused.value.reason
    assert str(refused.value) == f"{file}: {key}: {refused.value.reason}"


GOOD_ADDRESSES = [
    "https://a.example/cb?x=1",
    "http://127.0.0.1:8765/callback",
    "http://[::1]:9/cb",
    "http://localhost/cb",
]
BAD_ADDRESSES = [
    "http://a.example/cb", "https://*.example/cb", "https://a.example/cb#part", "https://user@a.example/cb",
    "https:///cb", "myapp://cb", "/callback", "https://a.example:99999/", "http://127.0.0.1.evil.example/cb",
    "https://a.example/c b", "javascript:alert(1)", "https://a.example\\\\@b.example/", "http://10.0.0.1/cb", "",
]  # fmt: skip


@pytest.mark.parametrize("address", GOOD_ADDRESSES)
def test_an_exact_https_or_loopback_address_may_be_redirected_to(agreed: Any, address: str) -> None:
    agreed.edit(PARTNER, "https://metro.example/callback", address)
    assert agreed.load().partners["metro"].terms.app[0].redirect_uris == (address,)


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_any_other_address_is_refused(agreed: Any, address: str) -> None:
    agreed.edit(PARTNER, "https://metro.example/callback", address)
    with pytest.raises(DocumentInvalid) as refused:
        agreed.load()
    assert refused.value.key == "$.app[0].redirect_uris[0]"


def _with_keys(agreed: Any, *jwks: dict[str, Any]) -> None:
    tables = ", ".join("{ " + ", ".join(f'{name} = "{value}"' for name, value in jwk.items()) + " }" for jwk in jwks)
    agreed.edit(PARTNER, 'name = "Server"', f'name = "Server"\nkeys = [{tables}]')


def _public(key: Any, **more: str) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": "k1", **more}


@pytest.mark.parametrize(
    "key",
    [ECKey.generate_key("P-256"), OKPKey.generate_key("Ed25519"), RSAKey.generate_key(2048)],
    ids=["P-256", "Ed25519", "RSA-2048"],
)
def test_a_strong_public_key_is_registered(agreed: Any, key: Any) -> None:
    _with_keys(agreed, _public(key, use="sig"))
    assert agreed.load().partners["metro"].terms.app[0].keys[0]["kid"] == "k1"


SHORT_MODULUS = urlsafe_b64encode((2**1024 - 1).to_bytes(128, "big")).rstrip(b"=").decode()
P256 = ECKey.generate_key("P-256")
BAD_KEYS = [
    ({**P256.as_dict(private=True), "kid": "k1"}, "keys[0].d", "private key material"),
    (_public(ECKey.generate_key("P-384")), "keys[0].crv", "use P-256"),
    (_public(OKPKey.generate_key("X25519")), "keys[0].crv", "use Ed25519"),
    ({"kty": "RSA", "kid": "k1", "e": "AQAB", "n": SHORT_MODULUS}, "keys[0].n", "1024 bits"),
    ({**OctKey.generate_key(256).as_dict(private=True), "kid": "k1"}, "keys[0].k", "private key material"),
    ({"kty": "oct", "kid": "k1"}, "keys[0].kty", "use EC (P-256)"),
    (_public(P256, use="enc"), "keys[0].use", "is not sig"),
    (_public(P256, alg="HS256"), "keys[0].alg", "signs with ES256"),
    (_public(P256, x="AAAA"), "keys[0].kty", "is not a usable EC key"),
    (_public(P256, x5u="https://a.example/"), "keys[0].x5u", "is not a member"),
    ({name: value for name, value in _public(P256).items() if name != "kid"}, "keys[0].kid", "is missing"),
]


@pytest.mark.parametrize(("jwk", "key", "reason"), BAD_KEYS)
def test_a_weak_private_or_strange_key_is_refused(agreed: Any, jwk: dict[str, Any], key: str, reason: str) -> None:
    _with_keys(agreed, jwk)
    with pytest.raises(DocumentInvalid) as refused:
        agreed.load()
    assert refused.value.key == f"$.app[0].{key}"
    assert reason in refused.value.reason
    assert not any(value in str(refused.value) for value in (jwk.get("d"), jwk.get("k")) if value)


def test_one_key_for_two_apps_is_refused(agreed: Any) -> None:
    _with_keys(agreed, _public(P256), _public(P256, kid="k2"))
    with pytest.raises(DocumentInvalid, match="the same key as"):
        agreed.load()


def test_a_client_id_belongs_to_one_app_of_all_partners(agreed: Any) -> None:
    agreed.add_partner("tram")
    agreed.load()
    agreed.edit("partners/tram/partner.toml", "tram-server", "metro-server")
    with pytest.raises(DocumentInvalid) as refused:
        agreed.load()
    assert (refused.value.file, refused.value.key) == ("partners/tram/partner.toml", "$.app[0].client_id")
    assert "partners/metro/partner.toml" in refused.value.reason


def test_a_folder_without_its_default_policy_is_refused(agreed: Any) -> None:
    (agreed.root / DEFAULT).unlink()
    with pytest.raises(DocumentInvalid, match="without it nothing is denied"):
        agreed.load()


def test_a_partner_folder_without_partner_toml_is_refused(agreed: Any) -> None:
    agreed.write("partners/empty/contract.toml", agreed.read(CONTRACT))
    with pytest.raises(DocumentInvalid, match=r"partners/empty/partner\.toml: \$: cannot be read"):
        agreed.load()


def test_a_file_that_is_not_utf8_is_refused(agreed: Any) -> None:
    (agreed.root / PARTNER).write_bytes(b'[partner]\nid = "\xff"\n')
    with pytest.raises(DocumentInvalid, match="is not UTF-8"):
        agreed.load()


def test_earlier_versions_stand_beside_the_latest(agreed: Any) -> None:
    agreed.write("partners/metro/contract.v1.toml", agreed.read(CONTRACT))
    agreed.edit(CONTRACT, "version = 1", "version = 2")
    assert [draft.contract.version for draft in agreed.load().contracts] == [1, 2]


VERSION_FAULTS = [
    ("contract.v2.toml", "version = 1", "version = 1", "the file is named contract.v2.toml"),
    ("contract.v1.toml", "version = 1", "version = 1", "is also the version of"),
    ("contract.v2.toml", "version = 1", "version = 2", "is later than that of contract.toml"),
    ("contract.old.toml", "version = 1", "version = 1", "is named neither"),
]


@pytest.mark.parametrize(("file", "old", "new", "reason"), VERSION_FAULTS)
def test_versions_that_do_not_fit_together_are_refused(agreed: Any, file: str, old: str, new: str, reason: str) -> None:
    agreed.write(f"partners/metro/{file}", agreed.read(CONTRACT).replace(old, new))
    with pytest.raises(DocumentInvalid) as refused:
        agreed.load()
    assert reason in refused.value.reason


def test_a_contract_id_belongs_to_one_partner(agreed: Any) -> None:
    agreed.add_partner("tram")
    agreed.write("partners/tram/contract.toml", agreed.read(CONTRACT))
    with pytest.raises(DocumentInvalid, match="is the id of a contract of metro"):
        agreed.load()
