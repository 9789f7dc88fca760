"""What the page of any run must show."""

import numpy as np
from PIL import Image


def shown(path, pictures):
    """The text of a run's page.  It shows these pictures, no others are there, and none of them is blank."""
    page = (path / "index.html").read_text(encoding="utf-8")
    assert {file.name for file in (path / "pictures").iterdir()} == set(pictures)
    for name in pictures:
        assert name in page
        with Image.open(path / "pictures" / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, name
    return page
