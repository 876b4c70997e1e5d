"""Stage 1, where the faces are: Detectron2 behind the ``Detector`` protocol."""

import warnings

from faces.command import UserError, expect_interrupts

expect_interrupts(__name__)

# Detectron2 0.6 scripts a few functions when it is imported; nobody here can change that.
warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
# PyTorch warns of pickles that it then refuses.
warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)


def check_detectron2() -> None:
    """Raise a ``UserError`` that says how to get Detectron2, if it cannot be imported."""
    try:
        import detectron2  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"Detectron2 is not installed ({error}); run `make setup`, which builds it, or install "
            "an official build into this environment"
        ) from error
