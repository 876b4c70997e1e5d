"""What goes wrong for reasons that a user can mend: one line on standard error, no traceback."""

from __future__ import annotations

from faces.command import UserError


class DetectionError(UserError):
    """Bad input to a command of this package; the message names the cause and the way out."""


class DataError(DetectionError):
    """A data file is missing, unreadable, or not what it should be."""


class ConfigError(DetectionError):
    """A configuration file or an override names something that does not exist or cannot be."""


class RunError(DetectionError):
    """A run folder or a file of weights cannot be used."""


class NonFiniteLossError(DetectionError):
    """The loss became infinite or not a number."""
