"""One printed number beside ours, and the two ways of saying how far they are apart."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One printed number beside ours.

    Attributes:
        table: `1`, `3`, `4`, `5`, `6` or `3.4`.
        row: which row of it.
        quantity: which column.
        published: the printed number; None where the paper prints "infeasible".
        decimals: digits after its point, which say how far it is rounded.
        paper: our value under the paper's convention (infeasible: None).
        physical: our value under the physical convention.
        note: where the paper contradicts itself, or what stands behind the number.
    """

    table: str
    row: str
    quantity: str
    published: float | None
    decimals: int
    paper: float | None
    physical: float | None
    note: str = ""

    @property
    def error_pct(self) -> float | None:
        """Ours over the printed number, less 1 [%]; None without both or with a printed 0."""
        if not self.published or self.paper is None:
            return None
        return 100.0 * (self.paper / self.published - 1.0)

    @property
    def beyond_rounding_pct(self) -> float | None:
        """Error outside the interval that the printed digits allow [%]; 0 inside it.

        A printed 0.2 stands for 0.15 to 0.25.
        """
        if self.published is None or self.paper is None:
            return None
        half = 0.5 * 10.0**-self.decimals
        low, high = self.published - half, self.published + half
        slack = 1e-12 * abs(self.published)
        if low - slack <= self.paper <= high + slack:
            return 0.0
        edge = high if self.paper > high else low
        return 100.0 * (self.paper / edge - 1.0) if edge else math.inf
