"""Stage 1, where the faces are: Detectron2 behind the ``Detector`` protocol."""

import warnings

from faces.command import expect_interrupts

expect_interrupts(__name__)

# Detectron2 0.6 scripts a few functions when it is imported; nobody here can change that.
warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
# PyTorch warns of pickles that it then refuses.
warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
