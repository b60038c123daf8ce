"""Too little memory: how torch says it, and what to do."""

import torch

SMALLER = "close other programs, use a machine with more memory, or a smaller model"


def out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory; torch has no error of its own for the CPU's."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "allocate memory" in str(error)
