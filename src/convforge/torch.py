"""Another name of :mod:`convforge.integrations.torch`, as ``import convforge.torch``."""

import sys

from convforge.integrations import torch

# Not a second copy of the package: the package itself, and its layers by this path too.
sys.modules[__name__] = torch
sys.modules[f"{__name__}.nn"] = torch.nn
