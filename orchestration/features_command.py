"""``groundwork features``: the catalog in the terminal.

What belongs here: what those commands look up and print. What does not: facts, and how they look.
"""

from collections.abc import Sequence

from pydantic import ValidationError

from orchestration.declarations import DeclarationError
from orchestration.feature_catalog import gather_facts
from orchestration.feature_store.discovery.terminal import list_features, show_view, terminal
from orchestration.feature_store.views import UnknownFeatureError, build_catalog
from orchestration.project import read_project
from orchestration.quality import ContractError
from orchestration.settings import Settings
from orchestration.transformation import DbtParseError

FAULTS = (ContractError, DbtParseError, DeclarationError, UnknownFeatureError, ValidationError)
"""What is wrong with the project or the command: told without a stack trace."""


def list_command(settings: Settings, words: Sequence[str]) -> None:
    """Print every feature that has all the words; what is stored is not looked at."""
    project = read_project(settings)
    facts = gather_facts(project, build_catalog(project.declarations), views=())
    terminal().print(list_features(facts, words))


def show_command(settings: Settings, name: str) -> None:
    """Print a view, or ``view:feature``.

    Raises:
        UnknownFeatureError: There is none of that name.
    """
    project = read_project(settings)
    catalog = build_catalog(project.declarations)
    view, _, feature = name.partition(":")
    if feature:
        catalog.view(view).feature(feature)
    else:
        catalog.view(view)
    facts = gather_facts(project, catalog, views=(view,))
    found = next(one for one in facts.views if one.name == view)
    terminal().print(show_view(found, feature or None))
