"""Serving step by step in plain Python: every request an object, every step a loop. No jax.

Written from the rules in docs/guides/simulation.md, without the simulator's code: it does one
engine step at a time, adds contexts up anew in each, and looks costs up in the same tables by its
own interpolation.
"""

import math
from dataclasses import dataclass, field


@dataclass
class Request:
    number: int
    arrival: float
    prompt: int
    output: int
    cached: int = 0
    made: int = 0  # tokens of the answer so far
    read: float = 0  # tokens of the prompt (and of what is recomputed) in the cache
    steps_left: int = 0
    context: float = 0.0
    promised: float = 0.0
    first: float = math.nan
    finish: float = math.nan
    evictions: int = 0


@dataclass
class Costs:
    """Interpolation in the tables of a deployment, by plain loops."""

    token_knots: list
    length_knots: list
    context_knots: list
    decode: list
    linear: list
    attention: list

    @staticmethod
    def segment(knots, x):
        at = 0
        while at < len(knots) - 2 and x * (1 + 1e-13) >= knots[at + 1]:
            at += 1
        return at

    def line(self, knots, values, x):
        at = self.segment(knots, x)
        share = (x - knots[at]) / (knots[at + 1] - knots[at])
        return values[at] + share * (values[at + 1] - values[at])

    def decoding(self, sequences, context):
        row = [
            self.line(self.token_knots, [self.decode[i][j] for i in range(len(self.token_knots))],
                      sequences)
            for j in range(len(self.context_knots))
        ]  # fmt: skip
        return self.line(self.context_knots, row, context), row[0]

    def prompt(self, done):
        return done * self.line(self.length_knots, self.attention, max(1.0, done)) if done else 0.0


@dataclass
class Engine:
    costs: Costs
    budget: float
    sequences: float
    mixed: bool
    whole: bool
    reserve: float
    cache: float
    each: float
    stages: float = 1.0
    query: float = 1.0
    accepted: float = 1.0
    users: int = 0
    think: list = field(default_factory=list)  # pauses, in order of answers
    frontend: float = 0.0
    stream: float = 0.0  # decode steps until a token is with its user
    now: float = 0.0
    running: list = field(default_factory=list)
    log: list = field(default_factory=list)  # (decoding, chunk) of every step

    def ticks(self, rest):
        return math.ceil((rest - 1) / self.accepted)

    def held(self):
        some = [*self.running, *self.ready, *([self.reading] if self.reading else [])]
        return sum(r.context if r in self.running else r.total for r in some) + self.each * len(
            some
        )

    def serve(self, requests):
        self.waiting, self.again, self.ready, self.reading = list(requests), [], [], None
        self.done = 0
        if self.users:
            self.back = sorted(r.arrival for r in self.waiting[: self.users])
            self.meet()
        while self.done < len(requests):
            self.step(requests)
        return requests

    def meet(self):
        """Whoever is back first has the next request."""
        for place, r in enumerate(self.waiting):
            r.arrival = self.back[place] if place < len(self.back) else math.inf

    def leave(self, requests):
        for r in sorted(self.running, key=lambda r: r.slot):
            if r.steps_left <= 0:
                self.running.remove(r)
                r.finish = self.now + self.late
                if self.users:
                    self.back = sorted([*self.back, r.finish + self.think[self.done]])
                    self.meet()
                self.done += 1

    def evict(self):
        while (
            self.running
            and len(self.running) + bool(self.reading) > 1
            and self.held() + self.accepted * len(self.running) > self.cache
        ):
            if self.reading:
                victim, self.reading = self.reading, None
            else:
                victim = max(self.running, key=lambda r: r.number)
                self.running.remove(victim)
                victim.rest = victim.steps_left * self.accepted
            victim.evictions += 1
            self.again.append(victim)
            self.again.sort(key=lambda r: r.number)

    def next_prompt(self):
        """The request that may begin to be read, if any."""
        if self.again:
            r, total = self.again[0], None
            total = r.prompt + r.answer - r.rest
        elif self.waiting and self.waiting[0].arrival + self.frontend <= self.now:
            r = self.waiting[0]
            # Answers are whole numbers of accepted tokens after the first.
            r.answer = r.rest = r.output
            total = r.prompt
        else:
            return None
        busy = len(self.running) + len(self.ready)
        if busy >= self.sequences:
            return None
        further = 1 + self.accepted * self.ticks(r.rest)
        promised = sum(
            self.accepted * x.steps_left for x in self.running
        ) + sum(1 + self.accepted * x.steps_left for x in self.ready)  # fmt: skip
        need = (
            self.held() + total + self.each + self.accepted * (busy + 1)
            + self.reserve * (promised + further)
        )  # fmt: skip
        if busy and need > self.cache:
            return None
        if self.users and not self.again:
            self.back.pop(0)
        (self.again if self.again else self.waiting).pop(0)
        r.total, r.read = total, r.cached
        return r

    def step(self, requests):
        self.leave(requests)
        if self.done == len(requests):
            return
        self.evict()
        left = self.budget * self.stages - self.mixed * len(self.running) * self.query
        chunk, attention = 0.0, 0.0
        while left > 0:
            self.reading = self.reading or self.next_prompt()
            r = self.reading
            if r is None:
                break
            part = min(left, r.total - r.read)
            if self.whole and part < r.total - r.read:
                if chunk:
                    break
                part = r.total - r.read
            attention += self.costs.prompt(r.read + part) - self.costs.prompt(r.read)
            r.read += part
            chunk += part
            left -= part
            if r.read < r.total:
                break
            r.steps_left = self.ticks(r.rest)
            self.ready.append(r)
            self.reading = None
        self.run(chunk, attention)

    def run(self, chunk, attention):
        some = self.running
        if not chunk and not some:
            self.now = max(self.now, self.waiting[0].arrival + self.frontend)
            return
        count, full, short = len(some), 0.0, 0.0
        one = max(1, count)
        pace = self.costs.decoding(one, sum(r.context for r in some) / one)
        if count:
            full, short = pace
        # A first token is on its way during a decode step in which its request is already.
        contexts = [r.context for r in some] + [r.total for r in self.ready]
        after = max(1, len(contexts))
        self.late = self.stream * self.costs.decoding(after, sum(contexts) / after)[0]
        if chunk:
            parts = min(max(math.ceil(chunk / self.budget), 1.0), self.stages)
            tokens = chunk / parts + self.mixed * count * self.query / self.stages
            self.now += self.costs.line(self.costs.token_knots, self.costs.linear, tokens)
            self.now += attention * self.stages / parts
            if self.mixed and count:
                self.now += full - short
        else:
            self.now += full
        decoded = count if (self.mixed or not chunk) else 0
        if decoded:
            for r in some:
                r.steps_left -= 1
                r.context += self.accepted
        self.log.append((decoded, chunk))
        for r in self.ready:
            r.context = r.total
            if math.isnan(r.first):
                r.first = self.now + self.late
            r.slot = r.number
            self.running.append(r)
        self.ready = []
