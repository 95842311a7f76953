"""What people read, in two languages, one at a time. Faults are sentences in English: they quote the rules' words."""

from collections.abc import Mapping

ENGLISH: Mapping[str, str] = {
    "file": "file", "sha256": "sha256", "statement": "statement", "partner": "partner", "period": "period",
    "events": "events", "lines": "lines", "key": "key", "note": "note", "fault": "FAULT", "outcome": "outcome",
    "drift": "split drift", "bank_owes_minor": "bank owes", "partner_owes_minor": "partner owes", "net_minor": "net",
    "carried_in_minor": "carried in", "payable_minor": "to be paid", "carried_out_minor": "carried out",
    "drift_of": "{party} {drift} of ±{spread} {currency} expected by chance", "drift_far": ": FAR MORE THAN CHANCE",
    "bank": "bank", "number": "number {number}", "to": "{first} to {last}",
    "pinned": "pinned", "unknown_key": "NOT PINNED",
    "rests": "statement {fact} was not given: the opening rests on the bank's word",
    "empty": "that {fact} of its days hold nothing of this partner rests on the bank's signed word",
    "currencies": "events that statements of other currencies settle: {fact}",
    "pinned_by": "the pinned keys are those of {fact}: that one holds only if --remember wrote it here; one that came "
                 "with the file proves nothing",
    "accepted": "accepted", "refused": "REFUSED", "unknown": "proofs hold, SIGNER UNKNOWN",
    "all_accepted": "ACCEPTED: {count} file(s); every signature, proof, event, line and total was recomputed.",
    "all_unknown": "PROOFS HOLD, SIGNER UNKNOWN: {count} file(s) are right in themselves, but anybody could have made "
                   "them. Compare the thumbprint with the bank's, or give --jwks FILE or --key THUMBPRINT.",
    "some_refused": "REFUSED: {refused} of {count} file(s). Do not settle on them.",
    "remembered": "Remembered in known-statements.json: later files of the folder are checked against these keys.",
}  # fmt: skip
CHINESE: Mapping[str, str] = {
    "file": "文件", "sha256": "SHA-256", "statement": "对账单", "partner": "合作方", "period": "期间",
    "events": "事件", "lines": "明细", "key": "签名密钥", "note": "说明", "fault": "错误", "outcome": "结论",
    "drift": "分摊偏差", "bank_owes_minor": "银行应付", "partner_owes_minor": "合作方应付", "net_minor": "轧差净额",
    "carried_in_minor": "上期结转", "payable_minor": "本期应付", "carried_out_minor": "结转下期",
    "drift_of": "{party} {drift}，随机波动预期 ±{spread} {currency}", "drift_far": "：远超随机波动",
    "bank": "银行", "number": "第 {number} 号", "to": "{first} 至 {last}",
    "pinned": "已固定", "unknown_key": "未固定",
    "rests": "未提供上一份对账单 {fact}：期初数仅凭银行所述",
    "empty": "其中 {fact} 天没有该合作方的事件，仅凭银行签名所述",
    "currencies": "由其他币种对账单结算的事件：{fact}",
    "pinned_by": "固定的密钥取自 {fact}：仅当该文件由本机 --remember 写入时方可信；随对账单一同收到的不能证明任何事",
    "accepted": "通过", "refused": "拒绝", "unknown": "证明成立，签名者未知",
    "all_accepted": "通过：{count} 份对账单的签名、证明、事件、明细与合计已全部重新计算，完全一致。",
    "all_unknown": "证明成立，签名者未知：{count} 份对账单自身无误，但任何人都可能制作。请与银行核对密钥指纹，"
                   "或给出 --jwks 文件 或 --key 指纹。",
    "some_refused": "拒绝：{count} 份对账单中有 {refused} 份核对不符，请勿据此结算。",
    "remembered": "已记入 known-statements.json：该文件夹以后的对账单均按这些密钥核对。",
}  # fmt: skip
LANGUAGES: Mapping[str, Mapping[str, str]] = {"en": ENGLISH, "zh": CHINESE}


def language(asked: str | None, environment: Mapping[str, str]) -> str:
    """The one asked for, else that of the terminal (POSIX: LC_ALL goes before LANG), else English."""
    if asked is not None:
        return asked
    said = environment.get("LC_ALL") or environment.get("LC_MESSAGES") or environment.get("LANG") or ""
    return "zh" if said.lower().startswith("zh") else "en"
