from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fusionctl.gated_model import GatedModel
from tests.tree import Tree


@pytest.fixture
def gated(tree: Tree) -> Iterator[GatedModel]:
    """The model that the daemon of `tree` asks."""
    gated = GatedModel()
    tree.configure(gated.configuration)
    yield gated
    gated.close()
