"""Pods as node pressure sees them: which there are, what they may use, what they do use."""

from pathlib import Path
from typing import cast

import msgspec
import pytest
from msgspec.structs import replace

from edgeagent.api.objects.container import ResourceRequirements
from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.pod import Pod, PodSpec
from edgeagent.api.runtime import LABEL_ATTEMPT, LABEL_CONTAINER
from edgeagent.node.plugins.facades import RuntimeFacade
from edgeagent.node.plugins.hosted import HostedPlugin
from edgeagent.node.pods.pressured import PressuredPods
from edgeagent.node.pods.volumes import Volumes, VolumeUsage
from edgeagent.node.pressure.limits import exceeded
from edgeagent.node.pressure.pods import DiskUsage
from tests.node.fakeadmission import FakeAdmission
from tests.node.podworld import PodWorld, container, pod, run, with_spec
from tests.support.waiting import wait_for_async

FULL = 1 << 40


def pressured(world: PodWorld, directory: Path, image_device: int | None = None) -> PressuredPods:
    """The pods of this node, which may have its images on a disk of their own."""
    volumes = Volumes(
        disk=directory / "pods", memory=directory / "run", host=directory, mounter=world.mounter
    )
    runtime = RuntimeFacade(cast(HostedPlugin, world.plugin))
    return PressuredPods(world.manager, runtime, volumes, lambda: image_device)


def limited(name: str, limit: str, size_limit: str = "") -> Pod:
    """A pod with a limit on its first container, and perhaps one on a volume."""
    resources = ResourceRequirements(limits={"ephemeral-storage": limit} if limit else {})
    made = pod(name, container("main", resources=resources), container("other"))
    volumes = [{"name": "v", "emptyDir": {"sizeLimit": size_limit} if size_limit else {}}]
    spec = {**msgspec.to_builtins(made.spec), "volumes": volumes}
    return msgspec.structs.replace(made, spec=convert(spec, PodSpec))


def test_a_limit_of_zero_is_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(limited("a", "0", "0"))
            await wait_for_async(lambda: world.runs("a"))
            [found] = pressured(world, tmp_path).running()
            assert not found.has_storage_limits
            assert exceeded(found, DiskUsage({"v": FULL}, {"main": FULL})) == ""

    run(scenario)


def test_the_limit_of_a_pod_is_the_sum_of_those_of_its_containers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(limited("a", "1Mi"))
            await wait_for_async(lambda: world.runs("a"))
            [found] = pressured(world, tmp_path).running()
            assert found.storage_limit == 1 << 20
            assert "total limit of containers" in exceeded(found, DiskUsage({"v": FULL}))

    run(scenario)


def test_a_pod_that_waits_to_be_restarted_still_holds_its_disk(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"), with_spec(pod("done"), restart_policy="Never"), pod("b"))
            await world.end("a", 1)
            await world.advance(11)
            await world.end("a", 1)
            await world.end("done", 0)
            runs = [c for c in world.manager.containers_of("uid-a") if c.labels[LABEL_CONTAINER] == "main"]
            newest = max(runs, key=lambda c: int(c.labels[LABEL_ATTEMPT]))
            world.runtime.sizes = {newest.id: 7}
            pods = pressured(world, tmp_path)
            assert [one.name for one in pods.running()] == ["b"]
            assert sorted(one.name for one in pods.on_disk()) == ["a", "b"]
            usage = await pods.disk_usage(pods.on_disk())
            assert usage["uid-a"].containers == {"main": 7}
            await pods.evict("uid-a", "The node was low on resource: ephemeral-storage. ", 0)
            await world.clock.settle()
            assert world.status("a").reason == "Evicted"
            assert [one.name for one in pods.on_disk()] == ["b"]

    run(scenario)


def test_what_containers_write_into_the_nodes_files_counts(tmp_path: Path) -> None:
    """The termination message and ``/etc/hosts`` are files of the node, mounted writable."""

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(limited("a", ""))
            await wait_for_async(lambda: world.runs("a"))
            pods = pressured(world, tmp_path)
            before = (await pods.disk_usage(pods.running()))["uid-a"]
            folder = tmp_path / "pods/uid-a"
            (folder / "volumes/v/file").write_bytes(bytes(100_000))
            for file in ("termination/main/0", "etc-hosts"):
                (folder / file).write_bytes(bytes(1_000_000))
            usage = (await pods.disk_usage(pods.running()))["uid-a"]
            assert 2_000_000 <= usage.files - before.files < 2_050_000
            assert 2_100_000 <= usage.total - before.total < 2_150_000
            assert usage.inodes - before.inodes == 1

    run(scenario)


def test_a_pod_that_cannot_be_measured_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"), pod("b"))
            await wait_for_async(lambda: world.runs("a") and world.runs("b"))
            real = Volumes.usage

            async def usage(self: Volumes, given: Pod) -> VolumeUsage:
                if given.metadata.name == "a":
                    raise OSError(5, "Input/output error")
                return await real(self, given)

            monkeypatch.setattr(Volumes, "usage", usage)
            pods = pressured(world, tmp_path)
            assert list(await pods.disk_usage(pods.running())) == ["uid-b"]

    run(scenario)


def test_a_log_whose_folder_cannot_be_read_counts_for_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            record = world.running("a")
            path = str(tmp_path / ("x" * 300) / "log")  # ENAMETOOLONG, as any error of a disk
            world.manager._containers["uid-a"] = {record.id: replace(record, log_path=path)}
            pods = pressured(world, tmp_path)
            assert (await pods.disk_usage(pods.running()))["uid-a"].containers == {"main": 0}

    run(scenario)


def test_images_are_desired_as_pods_name_them_and_as_they_were_admitted(tmp_path: Path) -> None:
    def mutate(given: Pod) -> Pod:
        return with_spec(given, containers=[container("main", image="image:2")])

    admission = FakeAdmission()
    admission.change = mutate

    async def scenario() -> None:
        async with PodWorld(tmp_path, admission=admission) as world:
            await world.apply(pod("a"))
            assert set(pressured(world, tmp_path).desired_images()) == {"image:1", "image:2"}

    run(scenario)


@pytest.mark.parametrize("logs_with_images", [False, True])
def test_a_log_counts_for_the_disk_that_it_lies_on(tmp_path: Path, logs_with_images: bool) -> None:
    here = tmp_path.stat().st_dev
    log = tmp_path / "log"
    log.write_bytes(bytes(65536))
    size = log.stat().st_blocks * 512

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            await world.apply(pod("a"))
            record = world.running("a")
            world.runtime.sizes = {record.id: 7}
            world.manager._containers["uid-a"] = {record.id: replace(record, log_path=str(log))}
            pods = pressured(world, tmp_path, here if logs_with_images else here + 1)
            usage = (await pods.disk_usage(pods.running()))["uid-a"]
            assert usage.containers == {"main": 7 + size}
            assert usage.images == {"main": 7 + size if logs_with_images else 7}

    run(scenario)
