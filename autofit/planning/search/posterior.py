"""What is believed of quantities that share unknown effects, and how one measurement of a sum of them teaches all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

_STANDARD = NormalDist()
_FARTHEST = 8.0  # standard deviations; beyond it the tails of the normal distribution are 0 in floating point


@dataclass(frozen=True)
class Effect:
    """An effect of a sum: `weight` times the one called `name`, which is normal around 0 with `prior_std` before
    anything was seen."""

    name: str
    prior_std: float
    weight: float = 1.0


@dataclass(frozen=True)
class Normal:
    mean: float
    std: float

    def chance_below(self, limit: float) -> float:
        return _STANDARD.cdf((limit - self.mean) / max(self.std, 1e-12))


@dataclass(frozen=True)
class Posterior:
    """Normal distributions over effects, independent until a measurement ties them together.

    The exact posterior of linear-Gaussian regression, one observation at a time (Rasmussen and Williams, Gaussian
    Processes, 2006, section 2.1); `above` replaces the truncated normal by the normal with its moments (assumed density
    filtering, Minka 2001), which depends a little on the order of the observations.
    """

    means: Mapping[str, float] = field(default_factory=dict)
    covariances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def predict(self, effects: Iterable[Effect]) -> Normal:
        """The distribution of the sum of `effects`."""
        effects = tuple(effects)
        mean = sum(term.weight * self.means.get(term.name, 0.0) for term in effects)
        weights = _weights(effects)
        variance = sum(term.weight * _covariance(self._row(term), weights) for term in effects)
        return Normal(mean, math.sqrt(max(0.0, variance)))

    def observe(self, effects: Iterable[Effect], value: float, noise_std: float) -> Posterior:
        """The posterior after the sum was measured as `value`."""
        effects = tuple(effects)
        prior = self.predict(effects)
        variance, noise = prior.std**2, noise_std**2
        trust = variance / (variance + noise)
        return self._moved(effects, prior.mean + trust * (value - prior.mean), variance * (1 - trust))

    def observe_above(self, effects: Iterable[Effect], bound: float) -> Posterior:
        """The posterior after the sum was seen to be larger than `bound`."""
        effects = tuple(effects)
        prior = self.predict(effects)
        at = min(_FARTHEST, (bound - prior.mean) / max(prior.std, 1e-12))
        if at < -_FARTHEST:
            return self
        hazard = _STANDARD.pdf(at) / (1 - _STANDARD.cdf(at))
        mean = max(prior.mean + prior.std * hazard, bound)
        return self._moved(effects, mean, prior.std**2 * max(1e-6, 1 - hazard * (hazard - at)))

    def _row(self, term: Effect) -> Mapping[str, float]:
        """The covariances of one effect with the others."""
        known = self.covariances.get(term.name)
        return {term.name: term.prior_std**2} if known is None else known

    def _known(self, effects: tuple[Effect, ...]) -> dict[str, dict[str, float]]:
        """The covariances, with the effects that nothing was said of yet."""
        known = {name: dict(row) for name, row in self.covariances.items()}
        for term in effects:
            known.setdefault(term.name, {term.name: term.prior_std**2})
        return known

    def _moved(self, effects: tuple[Effect, ...], mean: float, variance: float) -> Posterior:
        """The posterior with the sum of `effects` at `mean` and `variance`, and with everything tied to it moved
        along."""
        known, prior = self._known(effects), self.predict(effects)
        total = prior.std**2
        if total <= 0.0:
            return self
        weights = _weights(effects)
        shares = {name: _covariance(row, weights) / total for name, row in known.items()}
        means = {name: self.means.get(name, 0.0) + share * (mean - prior.mean) for name, share in shares.items()}
        lost = total - variance
        rows = {
            one: {other: row.get(other, 0.0) - shares[one] * shares[other] * lost for other in known}
            for one, row in known.items()
        }
        return Posterior(means, rows)


def _weights(effects: Iterable[Effect]) -> list[tuple[str, float]]:
    return [(term.name, term.weight) for term in effects]


def _covariance(row: Mapping[str, float], weights: list[tuple[str, float]]) -> float:
    return sum([weight * row.get(name, 0.0) for name, weight in weights])
