"""The cheapest pairing of two lists, exactly."""

import numpy as np
import numpy.typing as npt


def pair(cost: npt.NDArray[np.float64], alone: float) -> list[tuple[int, int]]:
    """Pair rows with columns so that the sum of costs is least.

    ``cost`` is (n, m); ``inf`` forbids a pair. A row that stays without a column costs ``alone``,
    so no pair costs more than that unless it saves another one. The result is in order of rows.

    Shortest augmenting paths (Kuhn and Munkres; Jonker and Volgenant, Computing 1987), in at most
    n²(n + m) steps. scipy has the same, but it is no dependency of the running program.
    """
    rows, columns = cost.shape
    if not rows:
        return []
    # Each row has a column of its own that stands for "alone".
    wide = np.full((rows, columns + rows), np.inf)
    wide[:, :columns] = cost
    wide[np.arange(rows), columns + np.arange(rows)] = alone
    holder = np.full(columns + rows, -1)  # column → the row that has it
    row_price, column_price = np.zeros(rows), np.zeros(columns + rows)
    for start in range(rows):
        _augment(wide, start, holder, row_price, column_price)
    return sorted((int(row), column) for column, row in enumerate(holder[:columns]) if row >= 0)


def _augment(
    wide: npt.NDArray[np.float64],
    start: int,
    holder: npt.NDArray[np.int_],
    row_price: npt.NDArray[np.float64],
    column_price: npt.NDArray[np.float64],
) -> None:
    """Give row ``start`` a column; rows that hold one move along the cheapest chain."""
    columns = wide.shape[1]
    reach = np.full(columns, np.inf)  # the cheapest way to each column so far
    came_from = np.full(columns, -1)  # the column before it on that way; -1: from ``start``
    done = np.zeros(columns, bool)
    row, before, so_far = start, -1, 0.0
    path_rows = [start]
    path_reach = [0.0]
    while True:
        way = so_far + wide[row] - row_price[row] - column_price
        nearer = (way < reach) & ~done
        reach[nearer], came_from[nearer] = way[nearer], before
        column = int(np.where(done, np.inf, reach).argmin())
        so_far = float(reach[column])
        if holder[column] < 0:
            break
        done[column] = True
        before, row = column, int(holder[column])
        path_rows.append(row)
        path_reach.append(so_far)
    row_price[path_rows] += so_far - np.asarray(path_reach)
    column_price[done] -= so_far - reach[done]
    while column >= 0:
        previous = int(came_from[column])
        holder[column] = start if previous < 0 else holder[previous]
        column = previous
