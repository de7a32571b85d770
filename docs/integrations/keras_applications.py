"""Networks of ``keras.applications``, computed by Keras and, converted, by convforge.

``KERAS_BACKEND=torch python docs/integrations/keras_applications.py [size] [batch]`` prints how far
the results are apart and how long each takes.
"""

import sys
from time import perf_counter

import keras
import numpy as np

import convforge

NETWORKS = ("VGG16", "ResNet50", "MobileNetV2")


def compare(name, size=64, batch=2, repeats=0):
    """Converted layers, difference over the largest result, and milliseconds of Keras and ours."""
    keras.utils.set_random_seed(0)
    network = getattr(keras.applications, name)
    model = network(weights=None, input_shape=(size, size, 3), classifier_activation=None)
    images = np.random.default_rng(0).standard_normal((batch, size, size, 3), dtype=np.float32)
    theirs, layers = model.predict_on_batch(images), convforge.keras.convert(model)
    ours = model.predict_on_batch(images)
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    times = {"theirs": [], "ours": []}
    for _ in range(repeats):  # one after the other, so that a disturbance meets both
        for who in times:
            (convforge.keras.restore if who == "theirs" else convforge.keras.convert)(model)
            model.predict_on_batch(images)
            start = perf_counter()
            model.predict_on_batch(images)
            times[who].append(1e3 * (perf_counter() - start))
    return len(layers), difference, *(np.median(t) if t else np.nan for t in times.values())


def main(size=224, batch=1):
    """Print the table."""
    print(f"{'':<12} layers  difference  Keras ms  convforge ms")
    for name in NETWORKS:
        layers, difference, theirs, ours = compare(name, size, batch, repeats=7)
        print(f"{name:<12} {layers:>6}  {difference:>10.1e}  {theirs:>8.1f}  {ours:>12.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
