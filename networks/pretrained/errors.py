"""What goes wrong with published weights."""

from faces.command import UserError


class PretrainedError(UserError):
    """Published weights cannot be had; the message says which, why, and how to get them."""
