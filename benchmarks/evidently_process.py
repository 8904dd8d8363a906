"""Evidently's side, run by the Python of its own environment: ``evidently_process.py FOLDER``.

Its presets for drift of every column and for classification, on data frames that are read before. The last
line that it prints is JSON.
"""

import json
import sys
import time
from pathlib import Path

import pandas as pd
from evidently import BinaryClassification, DataDefinition, Dataset, Report
from evidently.presets import ClassificationPreset, DataDriftPreset


def main(folder: Path) -> None:
    """Run both reports and tell their times."""
    frames = {}
    for name in ("current", "reference"):
        frame = pd.read_parquet(folder / f"{name}.parquet").drop(columns="prediction_at")
        frames[name] = frame.astype({"label": int, "decision": int, "b0": str})
    texts = [name for name in frames["current"] if name[0] in "tb"]
    numbers = [name for name in frames["current"] if name[0] == "f" or name == "score"]
    definition = DataDefinition(
        numerical_columns=numbers,
        categorical_columns=[*texts, "label", "decision"],
        classification=[
            BinaryClassification(target="label", prediction_labels="decision", prediction_probas="score")
        ],
    )
    parts = {}
    for name, preset in (
        ("drift", DataDriftPreset()),
        ("classification", ClassificationPreset(probas_threshold=0.4)),
    ):
        started = time.perf_counter()
        sets = {
            side: Dataset.from_pandas(frame, data_definition=definition) for side, frame in frames.items()
        }
        Report([preset]).run(sets["current"], sets["reference"]).dict()
        parts[name] = time.perf_counter() - started
    print("\n" + json.dumps({"seconds": sum(parts.values()), "parts": parts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
