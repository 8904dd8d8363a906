"""How long the state machines run: a few fixed examples, or as many random ones as the environment sets."""

import os

from hypothesis import HealthCheck, Phase, settings

EXAMPLES = int(os.environ.get("GROUNDWORK_STATE_MACHINE_EXAMPLES", "0"))
SETTINGS = settings(
    max_examples=EXAMPLES or 2,
    stateful_step_count=5,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    # A step takes a second: a failure is reported as it was found, after at most five steps.
    phases=(Phase.generate,),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
