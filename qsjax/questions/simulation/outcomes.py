"""What a simulated deployment served: latencies as quantiles, rates, and where its time went."""

import dataclasses
import math

import numpy as np

from qsjax.questions.simulation.events import Event
from qsjax.questions.simulation.traffic import Traffic

# Requests beyond a quantile that an estimate of it needs.
TAIL = 10
QUANTILES = (0.5, 0.9, 0.95, 0.99)
# Share of the requests that is left out at each end, where the deployment fills and empties.
CUT = 0.1
METRICS = ("ttft", "tpot", "itl", "e2e")


def needed_for(quantile: float) -> int:
    """Requests that an estimate of a quantile needs: ten beyond it.

    >>> needed_for(0.99)
    1000
    """
    return math.ceil(round(TAIL / (1.0 - quantile), 6))


def cut_of(traffic: Traffic) -> int:
    """Requests that are not measured at each end: a tenth, and in a closed loop all first ones."""
    count = len(traffic.arrival)
    cut = max(math.ceil(CUT * count), int(traffic.users))
    return cut if count - 2 * cut >= TAIL else 0


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What one attention replica did with its requests.

    The first and last requests, `cut` of each, are not measured: there the deployment fills and
    empties. Times of requests cover all of them, evictions too.

    Attributes:
        traffic: the requests.
        arrival: when each came; in a closed loop when the answer that let it in was there [s].
        first: when its first token came [s].
        finish: when its answer was there [s].
        steps: the events that ran steps, in order.
        evictions: requests that lost their cache and started anew.
        cut: requests left out at each end.
    """

    traffic: Traffic
    arrival: np.ndarray
    first: np.ndarray
    finish: np.ndarray
    steps: Event
    evictions: int
    cut: int

    @property
    def longest(self) -> float:
        """The longest request, prompt and answer [tokens]."""
        return float(np.max(self.traffic.prompt + self.traffic.output))

    @property
    def measured(self) -> np.ndarray:
        """Which requests are measured."""
        at = np.arange(len(self.arrival))
        return (at >= self.cut) & (at < len(self.arrival) - self.cut)

    @property
    def window(self) -> tuple[float, float]:
        """First and last time of the measurement [s].

        In a closed loop between two ends of answers; where requests come by the clock while those
        that are measured arrive, less the time of one of them, for as long the deployment fills.
        """
        if self.traffic.users > 0:
            ends = np.sort(self.finish)
            begin = ends[self.cut - 1] if self.cut else 0.0
            return float(begin), float(ends[len(ends) - 1 - self.cut])
        begin, end = self.came
        return begin + min(self.mean("e2e"), 0.5 * (end - begin)), end

    @property
    def came(self) -> tuple[float, float]:
        """When the first and the last measured request came [s]."""
        came = self.arrival[self.measured]
        return float(came.min()), float(came.max())

    def _rates(self, amounts: np.ndarray) -> tuple[float, float]:
        """Two readings of an amount of each request a second [1/s], of which the larger counts.

        What is answered within the window, of an answer that reaches beyond it the part within:
        many that run at once end at once. And of the measured ones until the last of them: most
        answers of a short rush end after the last arrival.

        In a closed loop requests in flight over the time of a measured one (Little's law). The
        last requests end sooner, for no others follow them: by their parts a run of five rounds
        of answers had 6 % too many.
        """
        begin, end = self.window
        is_loop = self.traffic.users > 0
        start = self.arrival if is_loop else self.first
        part = np.clip(self.finish, begin, end) - np.clip(start, begin, end)
        if is_loop:
            made, spent = (float(x[self.measured].sum()) for x in (amounts, self.finish - start))
            return (float(part.sum()) / (end - begin) * made / spent if end > begin else 0.0), 0.0
        done = ((self.finish > begin) & (self.finish <= end)).astype(float)
        done = np.divide(part, self.finish - start, out=done, where=self.finish > start)
        steady = float((amounts * done).sum()) / (end - begin) if end > begin else 0.0
        whole = float(amounts[self.measured].sum())
        return steady, whole / (float(self.finish[self.measured].max()) - self.came[0])

    @property
    def span(self) -> tuple[float, float]:
        """The window, of a short rush until its last answer [s]."""
        steady, whole = self._rates(np.ones(len(self.finish)))
        if steady >= whole:
            return self.window
        return self.came[0], float(self.finish[self.measured].max())

    def _within(self, begin: np.ndarray, end: np.ndarray) -> float:
        """Sum of the parts of some intervals that lie in the span, over its length [1]."""
        first, last = self.span
        parts = np.clip(end, first, last) - np.clip(begin, first, last)
        return float(parts.sum()) / (last - first)

    def latencies(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Values of a metric [s] and the weight of each.

        `ttft` is the time from arrival to the first token, `tpot` the mean time between the tokens
        of a request, `e2e` the time from arrival to the last token; `itl` are all times between
        tokens, of which the first ones after a prompt are left out where prompts run alone.
        """
        if metric == "itl":
            begin, end = self.window
            inside = (self.steps.now > begin) & (self.steps.now <= end)
            further = self.steps.decoding * (self.steps.steps - 1.0)
            values = np.concatenate([self.steps.gap[inside], self.steps.later[inside]])
            return values, np.concatenate([self.steps.had[inside], further[inside]])
        output = self.traffic.output
        values = {
            "ttft": self.first - self.arrival,
            "tpot": (self.finish - self.first) / np.maximum(output - 1.0, 1.0),
            "e2e": self.finish - self.arrival,
        }[metric]
        keep = self.measured & ((output > 1) | (metric != "tpot"))
        return values[keep], np.ones(int(keep.sum()))

    @property
    def is_in_step(self) -> bool:
        """Whether users of a replica ask together for ever: none pauses, all answers are equal."""
        osl = self.traffic.output
        return bool(self.traffic.users > 1 and osl[0] > 1 and np.ptp(osl) == 0) and not (
            self.traffic.think.any()
        )

    @property
    def settling(self) -> tuple[float, float]:
        """Mean TTFT of the first and of the second half of the measured requests [s]."""
        early, late = np.array_split((self.first - self.arrival)[self.measured], 2)
        return float(np.mean(early)), float(np.mean(late))

    def mean(self, metric: str) -> float:
        """Mean of a metric [s]; NaN if no request has it."""
        values, weights = self.latencies(metric)
        return float(np.sum(values * weights) / weights.sum()) if weights.sum() else math.nan

    def quantile(self, metric: str, quantile: float) -> float:
        """Smallest value that a share of the requests keeps [s]; NaN if no request has it."""
        values, weights = self.latencies(metric)
        if not weights.sum():
            return math.nan
        return float(np.quantile(values, quantile, weights=weights, method="inverted_cdf"))

    def attained(self, ttft: float = math.inf, tpot: float = math.inf) -> float:
        """Share of the requests that keep both limits [1]."""
        output = np.maximum(self.traffic.output - 1.0, 1.0)
        keeps = (self.first - self.arrival <= ttft) & ((self.finish - self.first) / output <= tpot)
        return float(np.mean(keeps[self.measured]))

    @property
    def requests_per_s(self) -> float:
        """Answers a second."""
        return max(self._rates(np.ones(len(self.finish))))

    @property
    def tokens_per_s(self) -> float:
        """Output tokens a second."""
        return max(self._rates(self.traffic.output))

    def goodput(self, ttft: float = math.inf, tpot: float = math.inf) -> float:
        """Answers a second that keep both limits."""
        return self.attained(ttft, tpot) * self.requests_per_s

    @property
    def shares(self) -> dict[str, float]:
        """Share of the time in steps with prompts, in decode steps, and without work."""
        end = np.asarray(self.steps.now)
        begin = end - np.asarray(self.steps.seconds)
        is_prompt = np.asarray(self.steps.chunk) > 0
        prompts, decode = (self._within(begin[kind], end[kind]) for kind in (is_prompt, ~is_prompt))
        return {"prompts": prompts, "decode": decode, "idle": max(0.0, 1.0 - prompts - decode)}

    @property
    def in_flight(self) -> dict[str, float]:
        """Mean number of requests that wait for their first token, and that decode."""
        return {
            "waiting": self._within(self.arrival, self.first),
            "decoding": self._within(self.first, self.finish),
        }


def equal_replicas(outcome: Outcome, replicas: int, load: float | None) -> float:
    """Replicas like the simulated one, which has the most of the users, if that is the load."""
    users = float(outcome.traffic.users)
    return load / users if load and users else float(replicas)


def row_of(
    outcome: Outcome, *, replicas: float, gpus: float, ttft: float, tpot: float
) -> dict[str, float | int | None]:
    """One row of numbers for a deployment of so many `replicas` like this one on `gpus` GPUs.

    Latencies are in s; a quantile that the requests do not tell is None.
    """
    measured = int(outcome.measured.sum())
    row: dict[str, float | int | None] = {"measured_requests": measured}
    for metric in METRICS:
        row[f"{metric}_mean"] = outcome.mean(metric)
        for quantile in QUANTILES:
            known = measured >= needed_for(quantile)
            name = f"{metric}_p{100 * quantile:g}"
            row[name] = outcome.quantile(metric, quantile) if known else None
    row |= {
        "requests_per_s": replicas * outcome.requests_per_s,
        "tokens_per_s": replicas * outcome.tokens_per_s,
        "tokens_per_s_per_gpu": replicas * outcome.tokens_per_s / gpus,
        "attained": outcome.attained(ttft, tpot),
        "goodput_per_s": replicas * outcome.goodput(ttft, tpot),
        "waiting": replicas * outcome.in_flight["waiting"],
        "decoding": replicas * outcome.in_flight["decoding"],
        "evictions": outcome.evictions,
    }
    return row | {f"share_{name}": share for name, share in outcome.shares.items()}
