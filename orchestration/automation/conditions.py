"""When an asset refreshes by itself: automation conditions as named functions.

What belongs here: conditions built from Dagster's own parts. What does not: schedules (they start
the day's landing) and sensors (they notice files).
"""

import warnings

import dagster as dg

from orchestration.automation.registration import sensor_status
from orchestration.dagster_ext import GraphChecks
from orchestration.dagster_ext.check_condition import BlockingChecksHold
from orchestration.settings import Settings

GATED = frozenset({"staged", "features", "training"})
"""Layers that follow their inputs once these pass; raw follows the schedule and the landing sensors."""
SERVED = frozenset({"online_store", "datasets", "outcomes"})
"""What follows its input once that passes, all partitions of it at once."""
PREDICTED = frozenset({"predictions"})
"""What follows its inputs partition by partition, but for the model that makes it."""
REPORTS = frozenset({"quality", "monitoring"})
"""What tells of its inputs, good or bad."""


Condition = dg.AutomationCondition[dg.AssetKey | dg.AssetCheckKey]


def inputs_hold(checks: GraphChecks) -> Condition:
    """True if every blocking check on every input holds, or the input is requested on this tick.

    Assets requested together run together, and in that run a failed check stops the downstream assets.
    """
    holds = BlockingChecksHold(checks) | dg.AutomationCondition.will_be_requested()
    return dg.AutomationCondition.all_deps_match(holds).with_label("inputs_hold")


def refresh_when_inputs_pass(checks: GraphChecks) -> Condition:
    """Refresh a partition once its inputs changed and every blocking check on them passed.

    Triggers when an input of the partition was updated, or the partition became missing, since this
    asset was last requested or updated. Every partition counts, not the newest only: a late file for
    an old day refreshes that day.

    Holds back while an input is missing or being made, while the asset itself is being made, and
    while a blocking check on an input does not hold for the data that is there now: it failed, was not
    evaluated or crashed. The trigger is kept, so a check that passes later lets the request through, once.

    A failed run of this asset is not requested again until an input changes: fix it and run it by hand.
    """
    return _when_inputs_pass(dg.AutomationCondition.any_deps_updated(), "refresh_when_inputs_pass", checks)


def _when_inputs_pass(updated: Condition, label: str, checks: GraphChecks) -> Condition:
    return (
        (dg.AutomationCondition.newly_missing() | updated).since_last_handled()
        & ~dg.AutomationCondition.any_deps_missing()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
        & inputs_hold(checks)
    ).with_label(label)


def serve_when_inputs_pass(checks: GraphChecks) -> Condition:
    """Refresh an asset without partitions once its inputs changed and every blocking check on them passed.

    As ``refresh_when_inputs_pass``, but it does not wait for every partition of an input: what there is is
    served. Can fail to run for as long as some input is always in progress.
    """
    inputs_changed = dg.AutomationCondition.newly_missing() | dg.AutomationCondition.any_deps_updated()
    return (
        inputs_changed.since_last_handled()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
        & inputs_hold(checks)
    ).with_label("serve_when_inputs_pass")


def predict_when_inputs_pass(checks: GraphChecks) -> Condition:
    """Predict a partition once its features changed and every blocking check on them passed.

    As ``refresh_when_inputs_pass``, but that another champion serves changes no prediction of a day that is
    over. Holds back until there is a champion.
    """
    updated = dg.AutomationCondition.any_deps_updated().ignore(dg.AssetSelection.groups("model"))
    return _when_inputs_pass(updated, "predict_when_inputs_pass", checks)


def refresh_when_inputs_settle() -> Condition:
    """Refresh after any input changed, passing or not: for reports, which must tell of failures too.

    Triggers when an input was updated since this asset was last requested or updated. Holds back
    while any input, or the asset itself, is being made. Can fail to run for as long as some input is
    always in progress.
    """
    return (
        dg.AutomationCondition.any_deps_updated().since_last_handled()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("refresh_when_inputs_settle")


def automate(spec: dg.AssetSpec, checks: GraphChecks) -> dg.AssetSpec:
    """The spec with the condition of its layer; a spec that has one keeps it."""
    layer = spec.key.path[0]
    if spec.automation_condition is not None:
        return spec
    if layer in GATED:
        return spec.replace_attributes(automation_condition=refresh_when_inputs_pass(checks))
    if layer in SERVED:
        return spec.replace_attributes(automation_condition=serve_when_inputs_pass(checks))
    if layer in PREDICTED:
        return spec.replace_attributes(automation_condition=predict_when_inputs_pass(checks))
    if layer in REPORTS:
        return spec.replace_attributes(automation_condition=refresh_when_inputs_settle())
    return spec


def build_automation_sensor(settings: Settings) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions; it sees every asset, so that none is requested twice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # use_user_code_server
        return dg.AutomationConditionSensorDefinition(
            name="layer_automation",
            target=dg.AssetSelection.all(),
            use_user_code_server=True,  # the daemon cannot evaluate a condition of our own
            minimum_interval_seconds=settings.sensor_interval(30),
            default_status=sensor_status(settings.environment, "automation"),
            description="Requests assets downstream of data that changed and passed its blocking checks.",
        )
