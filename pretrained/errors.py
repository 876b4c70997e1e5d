"""What goes wrong with published weights."""


class PretrainedError(RuntimeError):
    """Published weights cannot be had; the message says which, why, and how to get them."""
