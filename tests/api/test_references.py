"""What a pod names must travel with it to its node: missing one of these, the pod would wait for ever."""

from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.references import references, volume_references


def test_every_place_that_names_a_config_map_or_a_secret() -> None:
    projected = [{"configMap": {"name": "c3"}}, {"secret": {"name": "s3"}}, {"downwardAPI": {"items": []}}]
    key = {"key": "k"}
    pod = convert(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "a", "namespace": "n"},
            "spec": {
                "imagePullSecrets": [{"name": "pull"}],
                "initContainers": [
                    {"name": "i", "image": "x", "envFrom": [{"configMapRef": {"name": "c1"}}]},
                ],
                "containers": [
                    {
                        "name": "m",
                        "image": "x",
                        "envFrom": [{"secretRef": {"name": "s1"}}],
                        "env": [
                            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c4", **key}}},
                            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s4", **key}}},
                            {"name": "C", "value": "plain"},
                        ],
                    }
                ],
                "volumes": [
                    {"name": "v1", "configMap": {"name": "c2"}},
                    {"name": "v2", "secret": {"secretName": "s2"}},
                    {"name": "v3", "projected": {"sources": projected}},
                    {"name": "v4", "emptyDir": {}},
                ],
            },
        },
        Pod,
    )
    shown = {("ConfigMap", "n", "c2"), ("ConfigMap", "n", "c3"), ("Secret", "n", "s2"), ("Secret", "n", "s3")}
    assert volume_references(pod) == shown
    named = {("ConfigMap", "n", "c1"), ("ConfigMap", "n", "c4"), ("Secret", "n", "s1"), ("Secret", "n", "s4")}
    assert references(pod) == shown | named | {("Secret", "n", "pull")}
