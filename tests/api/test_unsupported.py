"""A good Pod that cannot be run here is decoded, and each field that stands in the way is named."""

from typing import Any

import pytest

from edgeagent.api.objects.support import fields_of
from edgeagent.api.objects.unsupported import RESOURCES, Unsupported, unsupported
from edgeagent.api.objects.volume import Volume
from tests.api.podkit import container, pod


def fields(**spec: Any) -> list[str]:
    found = unsupported(pod(**spec))
    assert all(each.why for each in found)
    return [each.field for each in found]


REFUSED = [field.encoded for field in fields_of(Volume) if field.support == "refused"]


@pytest.mark.parametrize("source", REFUSED)
def test_a_volume_source_that_is_refused_is_a_good_volume_elsewhere(source: str) -> None:
    assert fields(volumes=[{"name": "a", "emptyDir": {}}, {"name": "v", source: {}}]) == [
        f"spec.volumes[1].{source}"
    ]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"ephemeralContainers": [{"name": "debug"}]}, "spec.ephemeralContainers"),
        ({"runtimeClassName": "gvisor"}, "spec.runtimeClassName"),
        ({"overhead": {"cpu": "1"}}, "spec.overhead"),
        ({"readinessGates": [{"conditionType": "a"}]}, "spec.readinessGates"),
        ({"resourceClaims": [{"name": "gpu"}]}, "spec.resourceClaims"),
        ({"resources": {"limits": {"cpu": "1"}}}, "spec.resources"),
        ({"schedulingGates": [{"name": "g"}]}, "spec.schedulingGates"),
        ({"os": {"name": "windows"}}, "spec.os.name"),
        ({"hostUsers": False}, "spec.hostUsers"),
        ({"securityContext": {"windowsOptions": {}}}, "spec.securityContext.windowsOptions"),
        (
            {"volumes": [{"name": "v", "emptyDir": {"medium": "HugePages-2Mi"}}]},
            "spec.volumes[0].emptyDir.medium",
        ),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "spec.volumes[0].projected.sources[0].serviceAccountToken",
        ),
        (
            container(resources={"limits": {"disk": "1"}}),
            "spec.containers[0].resources.limits.disk",
        ),
        (
            container(resources={"requests": {"nvidia.com/gpu": 1}}),
            "spec.containers[0].resources.requests.nvidia.com/gpu",
        ),
        (container(resources={"claims": [{"name": "gpu"}]}), "spec.containers[0].resources.claims"),
        (
            container(volumeDevices=[{"name": "v", "devicePath": "/dev/x"}]),
            "spec.containers[0].volumeDevices",
        ),
        (container(restartPolicyRules=[{"action": "Restart"}]), "spec.containers[0].restartPolicyRules"),
        (
            container(lifecycle={"preStop": {"tcpSocket": {"port": 1}}}),
            "spec.containers[0].lifecycle.preStop.tcpSocket",
        ),
        (
            container(env=[{"name": "A", "valueFrom": {"fileKeyRef": {}}}]),
            "spec.containers[0].env[0].valueFrom.fileKeyRef",
        ),
        (
            {
                "initContainers": [
                    {"name": "i", "image": "i", "securityContext": {"windowsOptions": {"runAsUserName": "a"}}}
                ]
            },
            "spec.initContainers[0].securityContext.windowsOptions",
        ),
        (
            {
                "volumes": [{"name": "v", "emptyDir": {}}],
                **container(
                    volumeMounts=[
                        {"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": "Enabled"}
                    ]
                ),
            },
            "spec.containers[0].volumeMounts[0].recursiveReadOnly",
        ),
    ],
)
def test_what_cannot_be_run_is_named(spec: dict[str, Any], path: str) -> None:
    assert fields(**spec) == [path]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"os": {"name": "linux"}, "hostUsers": True},
        {
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "nodeSelector": {"a": "b"},
        },
        {"topologySpreadConstraints": [], "schedulerName": "mine", "preemptionPolicy": "Never"},
        {"enableServiceLinks": False, "automountServiceAccountToken": True, "serviceAccount": "x"},
        {"runtimeClassName": None, "overhead": None},
        container(resources={"limits": dict.fromkeys(RESOURCES, "1")}),
        container(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}]),
        {"hostNetwork": True, **container(ports=[{"containerPort": 80, "hostPort": 80}])},
        {"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]},
    ],
)
def test_what_can_be_run_is_not(spec: dict[str, Any]) -> None:
    assert fields(**spec) == []


def test_everything_is_named_at_once() -> None:
    found = unsupported(
        pod(runtimeClassName="x", hostUsers=False, **container(resources={"limits": {"a": 1, "b": 2}}))
    )
    assert [each.field.rpartition(".")[2] for each in found] == ["runtimeClassName", "hostUsers", "a", "b"]
    assert str(Unsupported("spec.x", "not here")) == "spec.x: not here"
