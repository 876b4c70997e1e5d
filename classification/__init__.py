"""Stage 2: face crops → emotions. Data, networks, training, the trained classifier."""

from faces.command import expect_interrupts

expect_interrupts(__name__)
