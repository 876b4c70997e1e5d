"""Measuring both stages, alone and together, on any data; and the tables made from the records."""

from faces.command import expect_interrupts

expect_interrupts(__name__)
