"""Classical classifiers to compare stage 2 with, behind the same EmotionClassifier protocol."""

from faces.command import expect_interrupts

expect_interrupts(__name__)
