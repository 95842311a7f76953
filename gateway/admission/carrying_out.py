"""An admitted call is carried out, and again where its transaction gave way to another's."""

from gateway import metrics
from gateway.call import Answer, Call, Operation, OpsCall
from gateway.database.absence import GAVE_WAY

REPEATS = 2  # who gives way three times in a row is told to try again later


async def carry_out(operation: Operation, call: Call | OpsCall) -> Answer:
    """What gave way was rolled back for certain, and the caller would be told to do just that."""
    for _ in range(REPEATS if operation.is_repeatable else 0):
        try:
            return await operation.endpoint(call)
        except GAVE_WAY:
            metrics.count("parasol_requests_repeated_total", operation=operation.id)
    return await operation.endpoint(call)
