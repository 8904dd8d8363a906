"""``groundwork features``: the catalog in the terminal.

What belongs here: what those commands look up and print. What does not: facts, and how they look.
"""

from collections.abc import Sequence

from pydantic import ValidationError

from orchestration.declarations import DeclarationError
from orchestration.feature_catalog import gather_facts
from orchestration.feature_store.discovery.terminal import list_features, show_view, terminal
from orchestration.feature_store.online.assets import check_online_types
from orchestration.feature_store.views import Catalog, UnknownFeatureError, build_catalog
from orchestration.learning.spec import build_models
from orchestration.project import Project, read_project
from orchestration.quality import ContractError, load_contracts
from orchestration.settings import Settings
from orchestration.transformation import DbtParseError

FAULTS = (ContractError, DbtParseError, DeclarationError, UnknownFeatureError, ValidationError)
"""What is wrong with the project or the command: told without a stack trace."""


def _checked_catalog(project: Project) -> Catalog:
    """The catalog of a project that Dagster would load, with models and contracts that fit it.

    Raises:
        ContractError: A contract has faults.
        DeclarationError: A service, a model or the type of an online feature has faults.
    """
    catalog = build_catalog(project.declarations)
    check_online_types(project.declarations, catalog)
    build_models(project.declarations, catalog)
    load_contracts(project.declarations, project.settings.soda_checks_dir)
    return catalog


def list_command(settings: Settings, words: Sequence[str]) -> None:
    """Print every feature that has all the words; what is stored is not looked at."""
    project = read_project(settings)
    facts = gather_facts(project, _checked_catalog(project), views=())
    terminal().print(list_features(facts, words))


def show_command(settings: Settings, name: str) -> None:
    """Print a view, or ``view:feature``.

    Raises:
        UnknownFeatureError: There is none of that name.
    """
    project = read_project(settings)
    catalog = _checked_catalog(project)
    view, _, feature = name.partition(":")
    if feature:
        catalog.view(view).feature(feature)
    else:
        catalog.view(view)
    facts = gather_facts(project, catalog, views=(view,))
    found = next(one for one in facts.views if one.name == view)
    terminal().print(show_view(found, feature or None))
