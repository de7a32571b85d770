"""Another name of :mod:`convforge.integrations.keras`, as ``import convforge.keras``."""

import sys

from convforge.integrations import keras

# Not a second copy of the package: the package itself.
sys.modules[__name__] = keras
