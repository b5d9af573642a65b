"""Where training runs: the GPU when there is one, in mixed precision; otherwise the processor."""

import torch


def device() -> torch.device:
    """The device networks are trained on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def mixed_precision(where: torch.device) -> torch.autocast:
    """bfloat16 where the device computes it natively: weights and losses stay in single precision."""
    native = where.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(where.type, torch.bfloat16, enabled=native)
