from __future__ import annotations

import pytest
import torch

from faces.command import UserError
from networks.device import usable_device


def test_without_a_name_the_best_there_is() -> None:
    assert usable_device(None) == ("cuda" if torch.cuda.is_available() else "cpu")
    assert usable_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "meta", "mps"])
def test_what_is_not_here(name: str) -> None:
    with pytest.raises(UserError, match=f"device {name}: not usable here .* try cpu") as caught:
        usable_device(name)
    assert len(str(caught.value)) < 300
