"""The models of a project behind its server: champions, their log, and what of them is no fault of a request.

What belongs here: where the learning room and the server meet. What does not: either.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestration.feature_store.online.reading import OnlineReader
from orchestration.feature_store.server import Unavailable
from orchestration.feature_store.views import Catalog
from orchestration.lakehouse import LakehouseResource
from orchestration.learning.spec import build_models
from orchestration.project import Project

if TYPE_CHECKING:
    from orchestration.learning.serving.champions import Champions
    from orchestration.learning.serving.log import PredictionLog
    from orchestration.learning.serving.predictor import Predictions, Predictor


class ModelServing:
    """A predictor with what it stands on, started."""

    def __init__(self, predictor: "Predictor", champions: "Champions", log: "PredictionLog") -> None:
        self._predictor, self._champions, self._log = predictor, champions, log
        self.models, self.columns = predictor.models, predictor.columns
        champions.start()

    async def predict(self, model: str, columns: Mapping[str, Sequence[Any]]) -> "Predictions":
        """See ``Predictor.predict``.

        Raises:
            Unavailable: No version serves, or what was predicted could not be written down.
        """
        from orchestration.learning.serving.champions import CannotPredictError  # noqa: PLC0415

        try:
            return await self._predictor.predict(model, columns)
        except CannotPredictError as fault:
            raise Unavailable(str(fault)) from fault

    def close(self) -> None:
        """Follow the registry no more, and end the log's files."""
        self._champions.close()
        self._log.close()


def open_serving(project: Project, catalog: Catalog, reader: OnlineReader) -> ModelServing | None:
    """What predicts for a project's models; None where none is declared that online features serve."""
    specs = {
        name: spec for name, spec in build_models(project.declarations, catalog).items() if spec.can_be_asked
    }
    if not specs:
        return None
    # NumPy, Arrow and LightGBM are for those who have models.
    from orchestration.learning.serving.champions import Champions  # noqa: PLC0415
    from orchestration.learning.serving.log import PredictionLog  # noqa: PLC0415
    from orchestration.learning.serving.predictor import Predictor  # noqa: PLC0415

    settings = project.settings
    champions = Champions(LakehouseResource.from_settings(settings), settings.models_dir, specs)
    log = PredictionLog(settings.prediction_log_dir)
    return ModelServing(Predictor(specs, champions, reader, log, project.clock), champions, log)
