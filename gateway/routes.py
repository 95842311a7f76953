"""The whole API on one page: one row an operation. `openapi/` says the same, and a test holds the two equal."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from gateway.accounts.api import AccountsApi
from gateway.accounts.sandbox_api import SandboxBankApi
from gateway.accounts.shapes import AccountConsentRequest
from gateway.call import BANK_DEADLINE_S, Answer, Decision, Operation, Protocol, TokenKind
from gateway.console.api import OpsApi
from gateway.console.pages import ConsolePages
from gateway.discounts.api import DiscountsApi
from gateway.discounts.shapes import ConfirmBody, HoldBody, QuoteBody, ReversalBody
from gateway.health import HealthApi
from gateway.jobs.api import JobsApi
from gateway.oauth.api import OAuthApi
from gateway.oauth.sandbox import SandboxApi
from gateway.oauth.withdrawal import WithdrawalPages
from gateway.parking.api import ParkingApi
from gateway.parking.shapes import AgreementBody, ChargeBody, EntryBody, ParkingQuoteBody, RefundBody
from gateway.payments.api import PaymentsApi
from gateway.payments.shapes import FundsRequest, MandateRequest, PaymentRequest
from gateway.portal.api import PortalApi
from gateway.referrals.api import ReferralsApi
from gateway.referrals.bank_api import ReferralsOps
from gateway.referrals.batch import FILE_DEADLINE_S, FILE_LIMIT
from gateway.referrals.batch_api import BatchApi, CreateBatchBody
from gateway.referrals.link_api import CreateLinkBody, LinkApi
from gateway.settlement.api import SettlementApi
from gateway.settlement.days_api import BusinessDateApi, DaysApi
from gateway.settlement.keys_api import StatementKeysApi
from gateway.settlement.ops_api import ApproveStatement, CalculateStatement, SettlementOps

Endpoint = Callable[..., Awaitable[Answer]]
CLIENT, CUSTOMER, OPERATOR, NOBODY = TokenKind.CLIENT, TokenKind.CUSTOMER, TokenKind.OPERATOR, TokenKind.NONE
OB, OWN, OAUTH, OPS, PAGE = Protocol.OB, Protocol.OWN, Protocol.OAUTH, Protocol.OPS, Protocol.PAGE
AISP, PISP, V1, ADMIN = "/open-banking/v4.0/aisp", "/open-banking/v4.0/pisp", "/partner/v1", "/admin/v1"
BULK_BODY_LIMIT, BULK_DEADLINE_S = 256 * 1024, 30.0  # 500 sandbox customers or events; each is opened by itself


def row(id: str, line: str, endpoint: Endpoint, protocol: Protocol, token: TokenKind, **rest: Any) -> Operation:
    """`line` is method and path; `room` is read off the endpoint's class by `in_room`."""
    method, _, path = line.partition(" ")
    return Operation(id=id, method=method, path=path, endpoint=endpoint, room=object, protocol=protocol, token=token,
                     **rest)  # fmt: skip


def page(id: str, line: str, endpoint: Endpoint, *, throttle: str = "") -> Operation:
    """A row for people."""
    return row(id, line, endpoint, PAGE, NOBODY, answers="text/html", throttle=throttle)


def in_room(room: type, *rows: Operation) -> tuple[Operation, ...]:
    """Rows whose endpoints are methods of `room`."""
    assert all(getattr(room, operation.endpoint.__name__, None) is operation.endpoint for operation in rows)
    return tuple(replace(operation, room=room) for operation in rows)


# fmt: off
OAUTH_SERVER = in_room(OAuthApi,
    row("OAuthMetadata",       "GET /.well-known/oauth-authorization-server", OAuthApi.oauth_metadata, OAUTH, NOBODY),
    row("OpenIdConfiguration", "GET /.well-known/openid-configuration", OAuthApi.oauth_metadata, OAUTH, NOBODY),
    row("JsonWebKeySet",       "GET /oauth/jwks", OAuthApi.jwks, OAUTH, NOBODY),
    row("PushAuthorizationRequest", "POST /oauth/par", OAuthApi.push, OAUTH, NOBODY, throttle="client"),
    page("Authorize",           "GET /oauth/authorize", OAuthApi.authorize, throttle="page"),
    page("Login",               "POST /oauth/login", OAuthApi.login, throttle="page"),
    page("DecideConsent",       "POST /oauth/consent", OAuthApi.decide_consent, throttle="page"),
    row("Token",               "POST /oauth/token", OAuthApi.token, OAUTH, NOBODY, throttle="client"),
    row("Introspect",          "POST /oauth/introspect", OAuthApi.introspect, OAUTH, NOBODY, throttle="client"),
    row("Revoke",              "POST /oauth/revoke", OAuthApi.revoke, OAUTH, NOBODY, throttle="client"),
)

WITHDRAWAL = in_room(WithdrawalPages,
    page("ShowConsents",     "GET /consents", WithdrawalPages.show, throttle="page"),
    page("ConsentsLogin",    "POST /consents/login", WithdrawalPages.log_in, throttle="page"),
    page("WithdrawConsent",  "POST /consents/withdrawal", WithdrawalPages.withdraw, throttle="page"),
    page("ConsentsLogout",  "POST /consents/logout", WithdrawalPages.log_out),
)

ACCOUNTS = in_room(AccountsApi,
    row("CreateAccountAccessConsents", f"POST {AISP}/account-access-consents", AccountsApi.create_consent, OB, CLIENT,
        scope="accounts", body=AccountConsentRequest, level="A2"),
    row("GetAccountAccessConsentsConsentId", f"GET {AISP}/account-access-consents/{{ConsentId}}",
        AccountsApi.get_consent, OB, CLIENT, scope="accounts", level="A2"),
    row("DeleteAccountAccessConsentsConsentId", f"DELETE {AISP}/account-access-consents/{{ConsentId}}",
        AccountsApi.delete_consent, OB, CLIENT, scope="accounts", level="A2"),
    row("GetAccounts", f"GET {AISP}/accounts", AccountsApi.list_accounts, OB, CUSTOMER, scope="accounts", level="A2"),
    row("GetAccountsAccountId", f"GET {AISP}/accounts/{{AccountId}}", AccountsApi.get_account, OB, CUSTOMER,
        scope="accounts", level="A2"),
    row("GetAccountsAccountIdBalances", f"GET {AISP}/accounts/{{AccountId}}/balances", AccountsApi.read_balances, OB,
        CUSTOMER, scope="accounts", level="A2"),
    row("GetAccountsAccountIdTransactions", f"GET {AISP}/accounts/{{AccountId}}/transactions",
        AccountsApi.list_transactions, OB, CUSTOMER, scope="accounts", level="A2"),
)

DISCOUNTS = in_room(DiscountsApi,
    row("ListCampaigns", f"GET {V1}/campaigns", DiscountsApi.list_campaigns, OWN, CLIENT, scope="discounts"),
    row("QuoteRedemption", f"POST {V1}/redemption-quotes", DiscountsApi.quote_redemption, OWN, CLIENT,
        scope="discounts", body=QuoteBody),
    row("HoldRedemption", f"POST {V1}/redemptions", DiscountsApi.hold_redemption, OWN, CLIENT, scope="discounts",
        body=HoldBody, idempotent=True, level="A2"),
    row("GetRedemption", f"GET {V1}/redemptions/{{RedemptionId}}", DiscountsApi.get_redemption, OWN, CLIENT,
        scope="discounts", level="A2"),
    row("ConfirmRedemption", f"POST {V1}/redemptions/{{RedemptionId}}/confirmation", DiscountsApi.confirm_redemption,
        OWN, CLIENT, scope="discounts", body=ConfirmBody, idempotent=True, level="A2"),
    row("ReleaseRedemption", f"POST {V1}/redemptions/{{RedemptionId}}/release", DiscountsApi.release_redemption, OWN,
        CLIENT, scope="discounts", idempotent=True, level="A2"),
    row("ReverseRedemption", f"POST {V1}/redemptions/{{RedemptionId}}/reversals", DiscountsApi.reverse_redemption, OWN,
        CLIENT, scope="discounts", body=ReversalBody, idempotent=True, level="A2"),
)

PAYMENTS = in_room(PaymentsApi,
    row("domesticVrpConsentsPost", f"POST {PISP}/domestic-vrp-consents", PaymentsApi.create_mandate, OB, CLIENT,
        scope="payments", body=MandateRequest, idempotent=True, signed=True, level="A2"),
    row("domesticVrpConsentsGet", f"GET {PISP}/domestic-vrp-consents/{{ConsentId}}", PaymentsApi.get_mandate, OB,
        CLIENT, scope="payments", signed=True, level="A2"),
    row("domesticVrpConsentsDelete", f"DELETE {PISP}/domestic-vrp-consents/{{ConsentId}}", PaymentsApi.delete_mandate,
        OB, CLIENT, scope="payments", signed=True, level="A2"),
    row("domesticVrpConsentsFundsConfirmation", f"POST {PISP}/domestic-vrp-consents/{{ConsentId}}/funds-confirmation",
        PaymentsApi.confirm_funds, OB, CUSTOMER, scope="payments", body=FundsRequest, signed=True, level="A2"),
    row("domesticVrpPost", f"POST {PISP}/domestic-vrps", PaymentsApi.pay, OB, CUSTOMER, scope="payments",
        body=PaymentRequest, idempotent=True, signed=True, level="A2", deadline_s=BANK_DEADLINE_S),
    row("domesticVrpGet", f"GET {PISP}/domestic-vrps/{{DomesticVRPId}}", PaymentsApi.get_payment, OB, CLIENT,
        scope="payments", signed=True, level="A2"),
    row("domesticVrpPaymentDetailsGet", f"GET {PISP}/domestic-vrps/{{DomesticVRPId}}/payment-details",
        PaymentsApi.get_payment_details, OB, CLIENT, scope="payments", signed=True, level="A2"),
)

PARKING = in_room(ParkingApi,
    row("ListParkingLots", f"GET {V1}/parking/lots", ParkingApi.list_parking_lots, OWN, CLIENT, scope="parking"),
    row("CreateVehicleAgreement", f"POST {V1}/parking/vehicle-agreements", ParkingApi.create_vehicle_agreement, OWN,
        CLIENT, scope="parking", body=AgreementBody, idempotent=True, level="A2"),
    row("GetVehicleAgreement", f"GET {V1}/parking/vehicle-agreements/{{AgreementId}}",
        ParkingApi.get_vehicle_agreement, OWN, CLIENT, scope="parking", level="A2"),
    row("EnterParking", f"POST {V1}/parking/sessions", ParkingApi.enter_parking, OWN, CLIENT, scope="parking",
        body=EntryBody, idempotent=True, level="A2"),
    row("GetParkingSession", f"GET {V1}/parking/sessions/{{SessionId}}", ParkingApi.get_parking_session, OWN, CLIENT,
        scope="parking", level="A2"),
    row("QuoteParking", f"POST {V1}/parking/sessions/{{SessionId}}/quotes", ParkingApi.quote_parking, OWN, CLIENT,
        scope="parking", body=ParkingQuoteBody),
    row("ChargeParking", f"POST {V1}/parking/sessions/{{SessionId}}/charges", ParkingApi.charge_parking, OWN, CLIENT,
        scope="parking", body=ChargeBody, idempotent=True, level="A2", deadline_s=BANK_DEADLINE_S),
    row("GetParkingCharge", f"GET {V1}/parking/charges/{{ChargeId}}", ParkingApi.get_parking_charge, OWN, CLIENT,
        scope="parking", level="A2"),
    row("RefundParkingCharge", f"POST {V1}/parking/charges/{{ChargeId}}/refunds", ParkingApi.refund_parking_charge, OWN,
        CLIENT, scope="parking", body=RefundBody, idempotent=True, level="A2", deadline_s=BANK_DEADLINE_S),
)

REFERRALS = (
    *in_room(ReferralsApi,
        row("GetIdentityKeys", f"GET {V1}/identity-keys", ReferralsApi.identity_keys, OWN, CLIENT, scope="referrals",
            level="A2"),
        row("ListClaims", f"GET {V1}/claims", ReferralsApi.list_claims, OWN, CLIENT, scope="referrals",
            query=("Cursor", "Limit", "State")),
        row("CountClaims", f"GET {V1}/claims/summary", ReferralsApi.count_claims, OWN, CLIENT, scope="referrals"),
        row("GetClaim", f"GET {V1}/claims/{{ClaimId}}", ReferralsApi.get_claim, OWN, CLIENT, scope="referrals"),
    ),
    *in_room(BatchApi,
        row("CreateReferralBatch", f"POST {V1}/referral-batches", BatchApi.create_batch, OWN, CLIENT,
            scope="referrals", body=CreateBatchBody),
        row("UploadReferralBatchFile", f"PUT {V1}/referral-batches/{{BatchId}}/file", BatchApi.upload_file, OWN, CLIENT,
            scope="referrals", raw_body="text/csv", body_limit=FILE_LIMIT, before_body=BatchApi.check_upload,
            deadline_s=FILE_DEADLINE_S),
        row("GetReferralBatch", f"GET {V1}/referral-batches/{{BatchId}}", BatchApi.get_batch, OWN, CLIENT,
            scope="referrals"),
        row("GetReferralBatchResults", f"GET {V1}/referral-batches/{{BatchId}}/results", BatchApi.get_results, OWN,
            CLIENT, scope="referrals", query=("Cursor", "Limit", "Outcome")),
    ),
    *in_room(LinkApi,
        row("CreateReferralLink", f"POST {V1}/referral-links", LinkApi.create_link, OWN, CLIENT, scope="referrals",
            body=CreateLinkBody, idempotent=True),
        row("GetReferralLink", f"GET {V1}/referral-links/{{LinkId}}", LinkApi.get_link, OWN, CLIENT, scope="referrals"),
        row("GetReferralLinkQr", f"GET {V1}/referral-links/{{LinkId}}/qr", LinkApi.get_qr, OWN, CLIENT,
            scope="referrals", answers="image/svg+xml", query=("Format",)),
        page("FollowReferralLink", "GET /r/{Code}", LinkApi.follow_link, throttle="page"),
        page("ShowLanding", "GET /sandbox/v1/landings/{Landing}", LinkApi.show_landing),
    ),
)

SETTLEMENT = (
    *in_room(SettlementApi,
        row("ListStatements", f"GET {V1}/statements", SettlementApi.list_statements, OWN, CLIENT, scope="settlement",
            level="A2"),
        row("GetStatement", f"GET {V1}/statements/{{StatementId}}", SettlementApi.get_statement, OWN, CLIENT,
            scope="settlement", level="A2"),
        row("DownloadStatement", f"GET {V1}/statements/{{StatementId}}/file", SettlementApi.download_statement, OWN,
            CLIENT, scope="settlement", level="A2"),
    ),
    *in_room(StatementKeysApi,
        row("StatementKeys", "GET /.well-known/statement-keys", StatementKeysApi.statement_keys, OWN, NOBODY),
    ),
)

OPERATIONS_OF_THE_BANK = (
    *in_room(OpsApi,
        row("ListPartners", f"GET {ADMIN}/partners", OpsApi.list_partners, OPS, OPERATOR),
        row("SuspendPartner", f"POST {ADMIN}/partners/{{PartnerId}}/suspension", OpsApi.suspend, OPS, OPERATOR,
            body=Decision),
        row("ReinstatePartner", f"POST {ADMIN}/partners/{{PartnerId}}/reinstatement", OpsApi.reinstate, OPS, OPERATOR,
            body=Decision),
        row("ReadAudit", f"GET {ADMIN}/audit", OpsApi.read_audit, OPS, OPERATOR, query=("BeforeSeq",)),
        row("ReadTrialBalance", f"GET {ADMIN}/trial-balance", OpsApi.trial_balance, OPS, OPERATOR),
    ),
    *in_room(DaysApi,
        row("GetOpenDay", f"GET {ADMIN}/days", DaysApi.get_open_day, OPS, OPERATOR),
        row("CloseDay", f"POST {ADMIN}/days/{{Day}}/closure", DaysApi.close_day, OPS, OPERATOR, body=Decision),
        row("GetDay", f"GET {ADMIN}/days/{{Day}}", DaysApi.get_day, OPS, OPERATOR),
    ),
    *in_room(ReferralsOps,
        row("ListPartnerClaims", f"GET {ADMIN}/partners/{{PartnerId}}/claims", ReferralsOps.list_claims, OPS, OPERATOR,
            query=("Cursor", "Limit", "State")),
        row("GetPartnerClaim", f"GET {ADMIN}/partners/{{PartnerId}}/claims/{{ClaimId}}", ReferralsOps.get_claim, OPS,
            OPERATOR),
        row("ListGoalsSetAside", f"GET {ADMIN}/goals-set-aside", ReferralsOps.list_goals_set_aside, OPS, OPERATOR,
            query=("Cursor", "Limit")),
    ),
    *in_room(SettlementOps,
        row("CalculateStatement", f"POST {ADMIN}/statements", SettlementOps.calculate, OPS, OPERATOR,
            body=CalculateStatement),
        row("ListAllStatements", f"GET {ADMIN}/statements", SettlementOps.list_statements, OPS, OPERATOR,
            query=("PartnerId",)),
        row("GetAnyStatement", f"GET {ADMIN}/statements/{{StatementId}}", SettlementOps.get_statement, OPS, OPERATOR),
        row("ApproveStatement", f"POST {ADMIN}/statements/{{StatementId}}/approvals", SettlementOps.approve, OPS,
            OPERATOR, body=ApproveStatement),
        row("RefuseStatement", f"POST {ADMIN}/statements/{{StatementId}}/refusal", SettlementOps.refuse, OPS,
            OPERATOR, body=Decision),
        row("IssueStatement", f"POST {ADMIN}/statements/{{StatementId}}/issue", SettlementOps.issue, OPS, OPERATOR,
            body=Decision),
    ),
    *in_room(JobsApi,
        row("ListJobs", f"GET {ADMIN}/jobs", JobsApi.list_jobs, OPS, OPERATOR, query=("State", "Kind", "PartnerId")),
        row("GetJob", f"GET {ADMIN}/jobs/{{JobId}}", JobsApi.get_job, OPS, OPERATOR),
        row("RetryJob", f"POST {ADMIN}/jobs/{{JobId}}/retry", JobsApi.retry, OPS, OPERATOR, body=Decision),
        row("WithdrawJob", f"POST {ADMIN}/jobs/{{JobId}}/withdrawal", JobsApi.withdraw, OPS, OPERATOR,
            body=Decision),
    ),
)

SANDBOX = (
    *in_room(SandboxApi,
        row("ApproveConsent", "POST /sandbox/v1/consents/{ConsentId}/authorisation", SandboxApi.approve, OWN, NOBODY),
    ),
    *in_room(SandboxBankApi,
        row("OpenAccounts", "POST /sandbox/v1/customers", SandboxBankApi.open_accounts, OWN, NOBODY,
            body_limit=BULK_BODY_LIMIT, deadline_s=BULK_DEADLINE_S),
        row("DecideOrder", "POST /sandbox/v1/orders/{OrderId}/decision", SandboxBankApi.decide_order, OWN, NOBODY),
        row("TellCustomerEvents", "POST /sandbox/v1/customer-events", SandboxBankApi.tell_events, OWN, NOBODY,
            body_limit=BULK_BODY_LIMIT),
    ),
    *in_room(BusinessDateApi,
        row("MoveBusinessDate", "POST /sandbox/v1/business-date", BusinessDateApi.move, OWN, NOBODY),
    ),
)

PAGES = (
    *in_room(PortalApi,
        page("Welcome",         "GET /", PortalApi.welcome),
        page("ChooseLanguage",  "GET /language/{Language}", PortalApi.choose_language),
        page("PortalHome",      "GET /portal", PortalApi.home),
        page("PortalReference", "GET /portal/reference/{Name}", PortalApi.reference),
        page("PortalErrors",    "GET /portal/errors", PortalApi.error_list),
        row("ReadContract",    "GET /openapi/{File}", PortalApi.contract, OWN, NOBODY, answers="application/yaml"),
    ),
    *in_room(ConsolePages,
        page("ConsoleHome",     "GET /console", ConsolePages.home),
        page("ConsoleLogin",    "POST /console/login", ConsolePages.log_in, throttle="log-in"),
        page("ConsoleLogout",   "POST /console/logout", ConsolePages.log_out),
    ),
)

HEALTH = in_room(HealthApi,
    row("Live",    "GET /healthz", HealthApi.live,    OWN, NOBODY),
    row("Ready",   "GET /readyz",  HealthApi.ready,   OWN, NOBODY),
    row("Metrics", "GET /metrics", HealthApi.metrics, OWN, NOBODY, answers="text/plain"),
)
# fmt: on

OPERATIONS: tuple[Operation, ...] = (
    *ACCOUNTS, *PAYMENTS, *PARKING, *DISCOUNTS, *REFERRALS, *SETTLEMENT, *OAUTH_SERVER, *WITHDRAWAL,
    *OPERATIONS_OF_THE_BANK, *SANDBOX, *PAGES, *HEALTH,
)  # fmt: skip

# What a policy may name: everything a partner calls with a token.
POLICY_OPERATIONS = frozenset(op.id for op in OPERATIONS if op.token in (CLIENT, CUSTOMER))
SCOPES = frozenset(operation.scope for operation in OPERATIONS if operation.scope)


def bind(rooms: Mapping[type, object], *, sandbox: bool) -> list[Operation]:
    """The rows with their endpoints bound to this worker's rooms. Sandbox rows exist only in a sandbox."""
    return [
        replace(
            operation,
            endpoint=partial(operation.endpoint, rooms[operation.room]),
            before_body=partial(operation.before_body, rooms[operation.room]) if operation.before_body else None,
        )
        for operation in OPERATIONS
        if sandbox or not operation.path.startswith("/sandbox/")
    ]
