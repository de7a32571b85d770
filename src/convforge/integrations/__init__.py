"""Other frameworks' layers and functions, computed by this package's kernels.

Each is imported when it is first asked for, and needs the framework it is named for.
"""
