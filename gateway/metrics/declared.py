"""Every metric of the house, declared once: name, kind, labels, buckets, and how several workers' gauges become one."""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

# OpenTelemetry's buckets for http.server.request.duration, in seconds
REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# our own work on a request: the promise is 0.25 ms at the median and 1.5 ms at the 99th percentile
OVERHEAD_S = (0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.0025, 0.005, 0.01, 0.025, 0.1)
# from a loop that is free to one that a blocking call has stopped
LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
CHORE_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
JOB_S = (0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 240.0, 1800.0)
SERIES_LIMIT = 4_000  # label sets a metric and worker, whatever it counts; beyond it a label is not a closed set
SERIES_A_PARTNER = 20  # more of them where each partner has its own: ten operations in use, two outcomes each
SERIES_BOUND = 100_000  # never more: 13 MB of a page, which Prometheus reads at each scrape
PARTNERS = "parasol_partners"  # the gauge that these limits follow


class Kind(StrEnum):
    """Prometheus's three that we use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Blend(StrEnum):
    """What several processes' values of one gauge become."""

    LOWEST = "lowest"
    HIGHEST = "highest"
    LATEST = "latest"  # the one written last, also by a process that has gone


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    blend: Blend = Blend.LATEST
    series_limit: int = SERIES_LIMIT

    def limit(self, partners: int) -> int:
        """Label sets that are kept apart while there are so many partners; the rest is counted as `other`."""
        if not {"partner", "campaign"} & set(self.labels):
            return self.series_limit
        return min(SERIES_BOUND, max(self.series_limit, SERIES_A_PARTNER * partners))


def _counter(name: str, labels: str, help: str) -> Metric:
    return Metric(name, Kind.COUNTER, tuple(labels.split()), help)


def _gauge(name: str, labels: str, help: str, *, blend: Blend = Blend.LATEST) -> Metric:
    return Metric(name, Kind.GAUGE, tuple(labels.split()), help, blend=blend)


def _histogram(name: str, labels: str, help: str, *, buckets: tuple[float, ...]) -> Metric:
    return Metric(name, Kind.HISTOGRAM, tuple(labels.split()), help, buckets=buckets)


# Labels are closed sets (house rule), except `partner` and `campaign`, which grow with the bank's business; their
# limit grows with it, up to SERIES_BOUND.
TABLE = (
    _histogram("http_server_request_duration_seconds", "http_request_method http_response_status_code",
               "Time from a request's first byte to its answer", buckets=REQUEST_S),
    _histogram("parasol_overhead_seconds", "", "Our own part of that time, without the bank's core",
               buckets=OVERHEAD_S),
    _counter("parasol_requests_total", "partner operation code outcome", "Requests answered"),
    _counter("parasol_refusals_total", "reason", "Requests refused, by the broken rule"),
    _counter("parasol_requests_repeated_total", "operation",
             "Requests carried out again, as their transaction had given way to another"),
    _counter("parasol_logins_total", "who outcome", "Log-ins of customers and operators: ok, failed, throttled"),
    _counter("parasol_redemptions_total", "state partner", "Discounts held, confirmed, released, reversed"),
    _counter("parasol_discounts_lapsed_total", "partner",
             "Paid charges whose discount could not be granted any more; each waits for people"),
    _counter("parasol_payments_total", "state partner", "Payments under a mandate that the core bank has decided"),
    _counter("parasol_payment_refunds_total", "state partner", "Refunds of payments that the core bank has decided"),
    _counter("parasol_claims_total", "outcome", "Referral claims decided"),
    _counter("parasol_goals_total", "goal", "Goals of the bank's customers that were decided, whoever they belong to"),
    _counter("parasol_goal_lookups_total", "", "Tokens made and looked up to find who brought the bank's customers"),
    _counter("parasol_goals_set_aside_total", "reason", "Events of the bank's feed that cannot be, kept for people"),
    _gauge("parasol_settlement_accrued_minor", "partner", "Owed to the partner, on no statement yet, minor units"),
    _counter("parasol_statements_total", "state", "Statements that entered a state"),
    _gauge("parasol_budget_used_minor", "campaign currency", "Budget that a campaign has used, minor units"),
    _gauge("parasol_config_generation", "", "Generation of partners and policies in force in the slowest worker",
           blend=Blend.LOWEST),
    _gauge(PARTNERS, "", "Partners in force; the limits of series by partner follow it", blend=Blend.HIGHEST),
    _gauge("parasol_config_age_seconds", "", "Since the slowest worker last knew its configuration to be current",
           blend=Blend.HIGHEST),
    _counter("parasol_documents_refused_total", "kind", "Applied documents that this program could not read"),
    _counter("parasol_documents_compiled_total", "kind", "Applied documents that were read and checked"),
    _counter("parasol_config_rows_read_total", "", "Rows read to keep partners and policies current"),
    _gauge("parasol_terms_unreadable", "partner", "1 while a version of the partner's contract cannot be read",
           blend=Blend.HIGHEST),
    _histogram("parasol_event_loop_lag_seconds", "", "How late a worker's event loop wakes", buckets=LAG_S),
    _gauge("parasol_audit_rows", "", "Rows of the audit trail, as the back office last saw them"),
    _counter("parasol_chore_runs_total", "chore outcome", "Runs of the back office's chores"),
    _histogram("parasol_chore_seconds", "chore", "Time that a chore took", buckets=CHORE_S),
    _counter("parasol_rows_expired_total", "table", "Rows that had their time and were dropped"),
    _counter("parasol_jobs_total", "kind outcome", "Attempts at jobs: done, put off, failed for good, withdrawn"),
    _histogram("parasol_job_seconds", "kind", "Time that an attempt at a job took", buckets=JOB_S),
    _counter("parasol_seals_broken_total", "", "Sealed days whose leaves in the database were found to be others"),
    _gauge("parasol_disk_full", "", "1 while the database says that its disk is full, or the home folder's nearly is",
           blend=Blend.HIGHEST),
    _counter("parasol_statement_files_differing_total", "",
             "Downloads broken off, as the file on the disk was not the statement's"),
    _gauge("parasol_chore_leader", "", "1 where a process does the chores", blend=Blend.HIGHEST),
    _counter("parasol_tasks_total", "task outcome",
             "Long-lived tasks: a turn failed; ended unasked or gave up (their process too); left behind"),
    _counter("parasol_processes_lost_total", "process cause",
             "Processes that the supervisor replaced because they ended, or because they hung"),
    _counter("parasol_log_keys_dropped_total", "", "Log keys outside the allow-list, dropped"),
    _counter("parasol_log_lines_dropped_total", "", "Log lines that could not be written or made, dropped"),
    _counter("parasol_metrics_folded_total", "metric", "Times a series above its metric's limit went to `other`"),
    _gauge("parasol_processes", "", "Processes whose numbers are on this page"),
    _gauge("parasol_build_info", "version python", "1, labelled with what runs", blend=Blend.HIGHEST),
)  # fmt: skip

METRICS = MappingProxyType({metric.name: metric for metric in TABLE})
assert len(METRICS) == len(TABLE), "a metric is declared once"
