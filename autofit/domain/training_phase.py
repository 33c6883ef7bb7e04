"""A training as one of several in a row, which may start from the model of an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .request import Request, SearchOptions


@dataclass(frozen=True)
class TrainingPhase:
    """One training of several. The model of an earlier phase stands in `request` by that phase's name."""

    name: str
    request: Request
    options: SearchOptions
    starts_from: str | None = None  # the phase whose model it trains on; None: request.model is a folder or a hub id
    rewarded_by: tuple[str, ...] = ()  # phases whose models are rewards of this one

    @property
    def uses(self) -> frozenset[str]:
        """The earlier phases whose models it needs."""
        return frozenset(self.rewarded_by if self.starts_from is None else (self.starts_from, *self.rewarded_by))

    def located(self, models: Mapping[str, str]) -> Request:
        """The request with the model of each phase that it uses, a folder in `models`, in the place of its name."""
        return with_models(self.request, {name: models[name] for name in self.uses})


def with_models(request: Request, moved: Mapping[str, str]) -> Request:
    """The request with other names of its model and of its rewards, where `moved` has them."""
    generation = request.generation
    rewards = tuple(replace(reward, source=moved.get(reward.source, reward.source)) for reward in generation.rewards)
    model = moved.get(request.model, request.model)
    return replace(request, model=model, generation=replace(generation, rewards=rewards))
