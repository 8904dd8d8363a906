"""Quality: Soda contracts as asset checks, and the report over their history.

What belongs here: reading contracts, verifying them, showing the results. What does not: how data
gets better (ingestion quarantines, dbt repairs) and when checks run (automation).
"""

from orchestration.quality.checks import build_contract_checks
from orchestration.quality.loading import ContractError, load_contracts
from orchestration.quality.report import REPORT_KEY, build_quality_report

__all__ = ["REPORT_KEY", "ContractError", "build_contract_checks", "build_quality_report", "load_contracts"]
