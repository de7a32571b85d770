"""Operators under the names, arguments, layouts and rules of other frameworks.

``onnx``, ``keras`` and ``jax`` are modules of adapters: each turns a call as that framework spells
it into calls of :mod:`convforge.functional`, and needs nothing of the framework itself. They take
and give what functional takes and gives: NumPy arrays, recorded Tensors, arrays of others. ::

    from convforge.conventions import keras

    y = keras.conv_transpose(images, kernel, strides=2, padding="same")

What a framework allows and no kernel computes raises an error that says what to do instead.
"""
