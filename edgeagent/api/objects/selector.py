"""Label selectors, and which labels they select.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from collections.abc import Mapping
from typing import Literal

from edgeagent.api.objects.base import KubernetesStruct


class LabelSelectorRequirement(KubernetesStruct, frozen=True):
    """One condition on one label. ``values`` is empty for ``Exists`` and ``DoesNotExist``."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = []


class LabelSelector(KubernetesStruct, frozen=True):
    """All of its conditions must hold; without any it selects everything."""

    match_labels: dict[str, str] = {}
    match_expressions: list[LabelSelectorRequirement] = []


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` meet every condition of ``selector``."""
    return selector.match_labels.items() <= labels.items() and all(
        _meets(requirement, labels) for requirement in selector.match_expressions
    )


def _meets(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    present = requirement.key in labels
    match requirement.operator:
        case "In":
            return present and labels[requirement.key] in requirement.values
        case "NotIn":
            return not present or labels[requirement.key] not in requirement.values
        case "Exists":
            return present
        case "DoesNotExist":
            return not present
