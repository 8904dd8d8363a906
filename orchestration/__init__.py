"""Groundwork: one Dagster code location, from raw files to gated features."""

import os

# Set before dagster, dbt or soda are imported anywhere: no telemetry leaves the machine.
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["SODA_CORE_TELEMETRY_ENABLED"] = "false"
