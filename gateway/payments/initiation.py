"""Who pays whom, as UK Open Banking 4.0.1 spells it: OBDomesticVRPInitiation and its parts, OBRisk1."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.clock import Moment

Text34 = Annotated[str, Meta(min_length=1, max_length=34)]
Text35 = Annotated[str, Meta(min_length=1, max_length=35)]
Text70 = Annotated[str, Meta(min_length=1, max_length=70)]
Text140 = Annotated[str, Meta(min_length=1, max_length=140)]
Text256 = Annotated[str, Meta(min_length=1, max_length=256)]
Text350 = Annotated[str, Meta(min_length=1, max_length=350)]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$")]
Decimal = Annotated[str, Meta(pattern=r"^\d{1,13}(\.\d{1,5})?$")]
MaskedPlate = Annotated[str, Meta(pattern=r"^[A-Z0-9一-鿿]{1,2}\*{2,8}[A-Z0-9一-鿿]{0,2}$")]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="pascal"):
    """An object of the standard; members that were not sent are left out again."""


class Amount(Part, frozen=True):
    """OBActiveOrHistoricCurrencyAndAmount."""

    amount: Decimal
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")]


class Proxy(Part, frozen=True):
    """OBProxy1; the codes are ISO 20022's ExternalProxyAccountType1Code."""

    identification: Annotated[str, Meta(min_length=1, max_length=2048)]
    code: Literal["TELE", "EMAL", "DNAM", "CINC", "COTX", "COID", "CUST", "DRLC", "EIDN", "EWAL", "PVTX", "LEIC",
                  "MBNO", "NIDN", "CCPT", "SHID", "SOSE", "TOKN", "UBIL", "VIPN", "BIID"]  # fmt: skip
    type: Text35 | None = None


class DebtorAccount(Part, frozen=True):
    """OBCashAccountDebtorWithName."""

    scheme_name: Text70
    identification: Text256
    name: Text350 | None = None
    secondary_identification: Text34 | None = None
    proxy: Proxy | None = None


class CreditorAccount(Part, frozen=True):
    """OBCashAccountCreditor3."""

    scheme_name: Text70
    identification: Text256
    name: Text70
    secondary_identification: Text34 | None = None
    proxy: Proxy | None = None


class PostalAddress(Part, frozen=True):
    """OBPostalAddress7."""

    address_type: Literal["BIZZ", "DLVY", "MLTO", "PBOX", "ADDR", "HOME", "CORR", "STAT"] | None = None
    department: Text70 | None = None
    sub_department: Text70 | None = None
    street_name: Text140 | None = None
    building_number: Annotated[str, Meta(min_length=1, max_length=16)] | None = None
    building_name: Text140 | None = None
    floor: Text70 | None = None
    unit_number: Annotated[str, Meta(min_length=1, max_length=16)] | None = None
    room: Text70 | None = None
    post_box: Annotated[str, Meta(min_length=1, max_length=16)] | None = None
    town_location_name: Text140 | None = None
    district_name: Text140 | None = None
    care_of: Text140 | None = None
    post_code: Annotated[str, Meta(min_length=1, max_length=16)] | None = None
    town_name: Text140 | None = None
    country_sub_division: Text35 | None = None
    country: Country | None = None
    address_line: Annotated[list[Text70], Meta(max_length=7)] | None = None


class UltimateParty(Part, frozen=True):
    """OBUltimateCreditor1 and OBUltimateDebtor1."""

    name: Text140 | None = None
    identification: Text256 | None = None
    lei: Annotated[str, Meta(pattern="^[A-Z0-9]{18}[0-9]{2}$")] | None = msgspec.field(name="LEI", default=None)
    scheme_name: Text70 | None = None
    postal_address: PostalAddress | None = None


class ReferredDocument(Part, frozen=True):
    """OBReferredDocumentInformation; ISO 20022's ExternalDocumentType1Code."""

    code: Literal["CINV", "CNFA", "CONT", "CREN", "DEBN", "DISP", "DNFA", "HIRI", "INVS", "MSIN", "PROF", "PUOR",
                  "QUOT", "SBIN", "SPRR", "TISH", "USAR", "AROI", "BOLD", "CMCN", "SOAC", "TSUT",
                  "VCHR"] | None = None  # fmt: skip
    issuer: Text35 | None = None
    number: Text35 | None = None
    related_date: Moment | None = None
    line_details: list[Annotated[str, Meta(min_length=1, max_length=2048)]] | None = None


class CreditorReference(Part, frozen=True):
    """OBRemittanceInformationStructured.CreditorReferenceInformation."""

    code: Literal["DISP", "FXDR", "PUOR", "RPIN", "RADM", "SCOR"] | None = None
    issuer: Text35 | None = None
    reference: Text35 | None = None


class StructuredRemittance(Part, frozen=True):
    """OBRemittanceInformationStructured."""

    referred_document_information: list[ReferredDocument] | None = None
    referred_document_amount: Decimal | None = None
    creditor_reference_information: CreditorReference | None = None
    invoicer: Text256 | None = None
    invoicee: Text256 | None = None
    tax_remittance: Text140 | None = None
    additional_remittance_information: Annotated[list[Text140], Meta(max_length=3)] | None = None


class Remittance(Part, frozen=True):
    """OBRemittanceInformation2."""

    structured: list[StructuredRemittance] | None = None
    unstructured: list[Text140] | None = None


class Supplement(Part, frozen=True):
    """SupplementaryData: all that we can process of it, as the standard has us refuse the rest. Whole plates are C2."""

    plate: MaskedPlate | None = None


class Authority(Part, frozen=True):
    """OBRegulatoryAuthority2."""

    name: Text140 | None = None
    country_code: Country | None = None


class ReportingDetail(Part, frozen=True):
    """OBStructuredRegulatoryReporting3."""

    type: Text35 | None = None
    date: Moment | None = None
    country: Country | None = None
    amount: Amount | None = None
    information: list[Text35] | None = None


class RegulatoryReporting(Part, frozen=True):
    """OBRegulatoryReporting1."""

    debit_credit_reporting_indicator: Literal["CRED", "DEBT", "BOTH"] | None = None
    authority: Authority | None = None
    details: list[ReportingDetail] | None = None


class Initiation(Part, frozen=True):
    """OBDomesticVRPInitiation: what all payments of a mandate have in common."""

    debtor_account: DebtorAccount | None = None
    creditor_account: CreditorAccount | None = None
    creditor_postal_address: PostalAddress | None = None
    ultimate_creditor: UltimateParty | None = None
    ultimate_debtor: UltimateParty | None = None
    remittance_information: Remittance | None = None
    regulatory_reporting: Annotated[list[RegulatoryReporting], Meta(max_length=10)] | None = None


class Risk(Part, frozen=True):
    """OBRisk1. The purposes are ISO 20022's external code sets: four characters, not listed here."""

    payment_context_code: (
        Literal[
            "BillingGoodsAndServicesInAdvance", "BillingGoodsAndServicesInArrears", "EcommerceMerchantInitiatedPayment",
            "FaceToFacePointOfSale", "TransferToSelf", "TransferToThirdParty", "BillPayment", "EcommerceGoods",
            "EcommerceServices", "PartyToParty", "PispPayee", "Other",
        ]
        | None
    ) = None  # fmt: skip
    merchant_category_code: Annotated[str, Meta(min_length=3, max_length=4)] | None = None
    merchant_customer_identification: Text70 | None = None
    contract_present_indicator: bool | None = None
    beneficiary_prepopulated_indicator: bool | None = None
    payment_purpose_code: Annotated[str, Meta(pattern="^[A-Z0-9]{4}$")] | None = None
    category_purpose_code: Annotated[str, Meta(pattern="^[A-Z0-9]{4}$")] | None = None
    beneficiary_account_type: (
        Literal[
            "Business", "BusinessSavingsAccount", "Charity", "Collection", "Corporate", "Ewallet", "Government",
            "Investment", "ISA", "JointPersonal", "Pension", "Personal", "PersonalSavingsAccount", "Premier", "Wealth",
        ]
        | None
    ) = None  # fmt: skip
    delivery_address: PostalAddress | None = None
