"""What is believed of quantities that share unknown effects, and how one measurement of a sum of them teaches all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

_STANDARD = NormalDist()
_FARTHEST = 8.0  # standard deviations; beyond it the tails of the normal distribution are 0 in floating point


@dataclass(frozen=True)
class Term:
    """`weight` times the effect `name`, which is normal around 0 with `prior_std` before anything was seen."""

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
class Belief:
    """Normal distributions over effects, independent until a measurement ties them together.

    The exact posterior of linear-Gaussian regression, one observation at a time (Rasmussen and Williams, Gaussian
    Processes, 2006, section 2.1); `above` replaces the truncated normal by the normal with its moments (assumed density
    filtering, Minka 2001), which depends a little on the order of the observations.
    """

    means: Mapping[str, float] = field(default_factory=dict)
    covariances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def predict(self, terms: Iterable[Term]) -> Normal:
        """Of the sum of `terms`."""
        terms = tuple(terms)
        mean = sum(term.weight * self.means.get(term.name, 0.0) for term in terms)
        return Normal(mean, math.sqrt(max(0.0, _variance(terms, self._known(terms)))))

    def seen(self, terms: Iterable[Term], value: float, noise_std: float) -> Belief:
        """After the sum was measured as `value`."""
        terms = tuple(terms)
        prior = self.predict(terms)
        variance, noise = prior.std**2, noise_std**2
        trust = variance / (variance + noise)
        return self._moved(terms, prior.mean + trust * (value - prior.mean), variance * (1 - trust))

    def above(self, terms: Iterable[Term], bound: float) -> Belief:
        """After the sum was seen to be larger than `bound`."""
        terms = tuple(terms)
        prior = self.predict(terms)
        at = min(_FARTHEST, (bound - prior.mean) / max(prior.std, 1e-12))
        if at < -_FARTHEST:
            return self
        hazard = _STANDARD.pdf(at) / (1 - _STANDARD.cdf(at))
        mean = max(prior.mean + prior.std * hazard, bound)
        return self._moved(terms, mean, prior.std**2 * max(1e-6, 1 - hazard * (hazard - at)))

    def _known(self, terms: tuple[Term, ...]) -> dict[str, dict[str, float]]:
        """The covariances, with the effects that nothing was said of yet."""
        known = {name: dict(row) for name, row in self.covariances.items()}
        for term in terms:
            known.setdefault(term.name, {term.name: term.prior_std**2})
        return known

    def _moved(self, terms: tuple[Term, ...], mean: float, variance: float) -> Belief:
        """With the sum of `terms` at `mean` and `variance`, everything tied to it moved along."""
        known, prior = self._known(terms), self.predict(terms)
        total = prior.std**2
        if total <= 0.0:
            return self
        shares = {name: _covariance(row, terms) / total for name, row in known.items()}
        means = {name: self.means.get(name, 0.0) + share * (mean - prior.mean) for name, share in shares.items()}
        lost = total - variance
        rows = {
            one: {other: row.get(other, 0.0) - shares[one] * shares[other] * lost for other in known}
            for one, row in known.items()
        }
        return Belief(means, rows)


def _covariance(row: Mapping[str, float], terms: tuple[Term, ...]) -> float:
    return sum(term.weight * row.get(term.name, 0.0) for term in terms)


def _variance(terms: tuple[Term, ...], known: Mapping[str, Mapping[str, float]]) -> float:
    return sum(term.weight * _covariance(known[term.name], terms) for term in terms)
