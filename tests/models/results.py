"""What a run of the families' tests comes to, family by family; a plugin of pytest."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field

import pytest

from tests.models.expectations import Check

KERNELS, TARGETS = "attention kernels", "LoRA targets"  # what the tests find out beside, by name of a property

_TESTS = {
    "test_it_is_planned_and_all_of_it_is_traced": Check.PLAN,
    "test_the_trainers_loss_is_the_models_own": Check.LOSS,
    "test_the_allocators_peak": Check.TRACE,
    "test_the_allocators_peak_with_adapters": Check.TRACE_LORA,
    "test_automatic_adapters_learn": Check.ADAPTERS,
    "test_a_probe_measures_it": Check.PROBE,
    "test_it_is_written_as_by_save_pretrained": Check.WRITTEN,
    "test_what_is_saved_is_what_was_trained": Check.SAVED,
}
_NAME = re.compile(r"::(\w+)\[(.+)\]$")


@dataclass
class Results:
    """`works` by check and family; `found` by family, what its tests have recorded."""

    works: dict[tuple[Check, str], bool] = field(default_factory=dict)
    found: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        named = _NAME.search(report.nodeid)
        if named is None or (report.when != "call" and report.passed):
            return
        test, model_type = named.groups()
        self.works[_TESTS[test], model_type] = report.passed
        self.found[model_type].update(report.user_properties)
