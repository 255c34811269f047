from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fusionctl.gated_model import GatedModel
from tests.tree import Tree


@pytest.fixture
def model(tree: Tree) -> Iterator[GatedModel]:
    """The model that the daemon of `tree` asks."""
    model = GatedModel()
    tree.configure(model.configuration)
    yield model
    model.close()
