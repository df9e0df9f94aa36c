"""Conditions over events and samples, as operators write them: `count(DefectDetected, 5m) >= 3 for 10s`. Pure."""

from platforms.conditions.condition import Condition, Fact
from platforms.conditions.errors import ConditionError
from platforms.conditions.parse import parse

__all__ = ["Condition", "ConditionError", "Fact", "parse"]
