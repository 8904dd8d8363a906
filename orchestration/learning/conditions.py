"""The conditions of the promotion gate, in the order in which they are looked at.

What belongs here: their names and what they say, for definitions. What does not: how they are told
(``gate``, which takes longer to import).
"""

from collections.abc import Mapping

CONDITIONS: Mapping[str, str] = {
    "inputs_hold": "Every blocking check of everything that training and evaluation read has passed.",
    "same_frozen_window": "Champion and challenger are scored now, on the same rows, which neither has "
    "learnt from.",
    "floors_reached": "Each metric with a declared floor reaches it.",
    "slices_unharmed": "In no declared slice is the primary metric worse than the champion's by more than "
    "declared, as its confidence bound says.",
    "scores_sane": "Scores are probabilities, spread, and on the whole as high as labels are frequent.",
    "small_and_fast": "The artifact is as small, and a prediction as fast, as declared.",
    "better_than_champion": "A paired test on the primary metric says that the challenger is better by more "
    "than the declared minimum; or no worse than declared, when something else forces the retrain.",
    "shadow_period": "The challenger has scored beside the champion for as long as declared.",
}
"""What each condition says, in the order in which they are looked at."""
