"""Where networks run: the name of one of PyTorch's devices."""

from __future__ import annotations

from faces.command import UserError


def usable_device(name: str | None) -> str:
    """Return ``name``, or ``cuda`` where there is a GPU and else ``cpu`` if it is None.

    A ``UserError`` says that this machine lacks the device, or PyTorch knows none of that name.
    """
    import torch  # here, as not every command that could say --device needs it

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no values")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = str(error).splitlines()[0].split(". ")[0]
        raise UserError(
            f"device {name}: not usable here ({cause}); leave it out, or try cpu"
        ) from error
    return name
