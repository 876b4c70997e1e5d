"""Speed beside accuracy, ours and the packages', on the same images with the same threads."""

from faces.command import expect_interrupts

expect_interrupts(__name__)
