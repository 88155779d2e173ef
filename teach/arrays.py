"""Kinds of arrays beside those of :mod:`pipeline.arrays`."""

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.intp]
"""Labels, places, folds."""
Flags = npt.NDArray[np.bool_]
"""What is there, what is chosen."""
Times = npt.NDArray[np.int64]
"""Nanoseconds."""
