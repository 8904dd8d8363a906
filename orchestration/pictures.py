"""Pictures in the metadata of assets.

What belongs here: what every room that draws needs. What does not: any drawing.
"""

import base64


def as_markdown_image(png: bytes, alternative: str) -> str:
    """The picture inside markdown, as a data address."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"
