"""``edgeagent top`` and ``edgectl top``: their lines, in any terminal, and the live view at a real one."""

import os
import sys
from pathlib import Path

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.objects.base import Condition, ObjectMeta
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.node import Node, NodeStatus
from edgeagent.api.objects.pod import (
    ContainerStateRunning,
    ContainerStateUnion,
    ContainerStatus,
    Pod,
    PodSpec,
    PodStatus,
)
from edgeagent.cli.terminal import Size
from edgeagent.cli.topscreen import Disk, Look, Picture, draw, plain
from edgeagent.cli.topview import node_lines, pod_lines
from edgeagent.wire.top import ContainerMetrics, NodeMetrics, PodMetrics, TopResult

PROGRAM = Path(__file__).with_name("topprogram.py")
NOW = 1_800_000_000.0


def metrics(name: str, *containers: tuple[str, str, str], namespace: str = "default") -> PodMetrics:
    """A pod with containers, each by name, CPU and memory; empty for what was not measured."""
    return PodMetrics(
        metadata=ObjectMeta(name=name, namespace=namespace),
        timestamp="2027-01-15T08:00:00Z",
        window="2s",
        containers=[
            ContainerMetrics(
                name=one, usage={key: amount for key, amount in (("cpu", cpu), ("memory", memory)) if amount}
            )
            for one, cpu, memory in containers
        ],
    )


def node_metrics(name: str = "gw-1", cpu: str = "1360m", memory: str = "1200Mi") -> NodeMetrics:
    return NodeMetrics(
        metadata=ObjectMeta(name=name),
        timestamp="2027-01-15T08:00:00Z",
        window="2s",
        usage={"cpu": cpu, "memory": memory},
    )


def pod(name: str, *containers: str, namespace: str = "default", restarts: int = 2) -> Pod:
    running = ContainerStateUnion(running=ContainerStateRunning(started_at="2027-01-15T07:00:00Z"))
    return Pod(
        api_version="v1",
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=PodSpec(containers=[Container(name=one, image="x") for one in containers]),
        status=PodStatus(
            phase="Running",
            container_statuses=[
                ContainerStatus(name=one, image="x", ready=True, state=running, restart_count=restarts)
                for one in containers
            ],
        ),
    )


def picture(*pods: PodMetrics) -> Picture:
    status = NodeStatus(
        conditions=[Condition(type="Ready", status="True")],
        capacity={"cpu": "4", "memory": "2Gi"},
    )
    return Picture(
        node=Node(api_version="v1", metadata=ObjectMeta(name="gw-1"), status=status),
        metrics=TopResult(node=node_metrics(), pods=list(pods)),
        pods=[pod("web", "main", "side"), pod("db", "main", namespace="shop", restarts=0)],
        disk=Disk("/var/lib/edgeagent", 6 * 1024**3, 29 * 1024**3),
        now=NOW,
    )


BUSY = (
    metrics("web", ("main", "900m", "64Mi"), ("side", "1m", "512Mi")),
    metrics("db", ("main", "250m", "300Mi"), namespace="shop"),
)


def test_a_usual_terminal() -> None:
    lines = draw(picture(*BUSY), Look(Size(80, 24)))
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
    assert lines[:10] == [
        "gw-1  Ready  2 pods, 3 containers  by cpu",
        "CPU     [||||||||||                   ] 34%  1.36 of 4 cores",
        "Memory  [|||||||||||||||||            ] 59%  1.2Gi of 2.0Gi",
        "Disk    [||||||                       ] 21%  6.0Gi of 29.0Gi  /var/lib/edgeagent",
        "",
        "POD          CONTAINER   CPU  MEMORY  RESTARTS  STATUS   AGE",
        "default/web  main       900m    64Mi         2  Running  60m",
        "shop/db      main       250m   300Mi         0  Running  60m",
        "default/web  side         1m   512Mi         2  Running  60m",
        "",
    ]
    assert lines[-1] == "q quit   s sort by memory"


def test_by_memory_and_with_a_problem() -> None:
    lines = draw(picture(*BUSY), Look(Size(80, 24), sort_by="memory", problem="the agent\x1b[2J is gone"))
    assert [line.split()[1] for line in lines[6:9]] == ["side", "main", "main"]
    assert lines[-2:] == ["the agent\\x1b[2J is gone", "q quit   s sort by cpu"]


def test_colours_are_for_those_who_want_them_and_change_no_word() -> None:
    import re

    busy = picture(*BUSY)
    plain_lines, coloured = draw(busy, Look(Size(80, 24))), draw(busy, Look(Size(80, 24), colour=True))
    assert "\x1b" not in "".join(plain_lines)
    assert "\x1b[32m||||||||||\x1b[0m" in coloured[1]
    assert [re.sub("\x1b\\[[0-9;]*m", "", line) for line in coloured] == plain_lines


def test_what_does_not_fit_is_counted() -> None:
    many = picture(*(metrics(f"p{number:03}", ("main", f"{number}m", "1Mi")) for number in range(60)))
    lines = draw(many, Look(Size(80, 24)))
    assert len(lines) == 24
    assert lines[6].startswith("default/p059")
    assert "… 44 more; a taller window shows them" in lines
    assert sum(line.startswith("default/") for line in lines) == 16


def test_nothing_runs() -> None:
    assert "No container runs." in draw(picture(), Look(Size(80, 24)))
    assert plain(picture(), "cpu")[-1] == "No container runs."


def test_what_was_not_measured_is_not_called_nothing() -> None:
    lines = draw(picture(metrics("web", ("main", "", ""))), Look(Size(80, 24)))
    assert "<unknown>  <unknown>" in lines[6]


@given(
    columns=st.integers(1, 200),
    rows=st.integers(1, 60),
    count=st.integers(0, 40),
    name=st.text("ab-\x1b\u202e", min_size=1, max_size=80),
)
def test_any_terminal(columns: int, rows: int, count: int, name: str) -> None:
    shown = picture(*(metrics(f"{name}{n}", (name, "1m", "1Mi"), namespace=name) for n in range(count)))
    lines = draw(shown, Look(Size(columns, rows), problem=name))
    assert len(lines) <= rows
    assert all(len(line) <= columns and line.isprintable() for line in lines)


def test_kubectls_tables() -> None:
    assert node_lines(
        [
            ("b", node_metrics("b", "250m", "64Mi"), {"cpu": "4", "memory": "2Gi"}),
            ("a", node_metrics("a", "2", "1Gi"), {}),
            ("c", None, {"cpu": "4"}),
        ],
        by=None,
        headers=True,
    ) == [
        "NAME   CPU(cores)   CPU(%)      MEMORY(bytes)   MEMORY(%)",
        "a      2000m        <unknown>   1024Mi          <unknown>",
        "b      250m         6%          64Mi            3%",
        "c      <unknown>    <unknown>   <unknown>       <unknown>",
    ]
    assert pod_lines(BUSY, by="memory", headers=True, namespaces=True, containers=False) == [
        "NAMESPACE   NAME   CPU(cores)   MEMORY(bytes)",
        "default     web    901m         576Mi",
        "shop        db     250m         300Mi",
    ]
    assert pod_lines(BUSY, by="cpu", headers=False, namespaces=False, containers=True) == [
        "web   main   900m   64Mi",
        "db    main   250m   300Mi",
        "web   side   1m     512Mi",
    ]


def at_a_terminal(*words: str, **environment: str) -> "pexpect.spawn[str]":
    """``topprogram`` at a terminal of 80 by 24."""
    return pexpect.spawn(
        sys.executable, ["-W", "error", str(PROGRAM), *words], dimensions=(24, 80), timeout=20,
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2]), "TERM": "xterm", **environment},
        encoding="utf-8",
    )  # fmt: skip


def test_at_a_terminal_it_sorts_follows_and_leaves_nothing_behind() -> None:
    child = at_a_terminal(NO_COLOR="1")
    child.expect_exact("\x1b[?1049h\x1b[?25l")
    child.expect("look 1")
    child.expect("s sort by memory")
    child.send("s")
    child.expect("s sort by cpu")
    child.expect("look 2")
    child.expect("the agent does not answer")
    child.setwinsize(10, 60)
    child.send("q")
    child.expect_exact("\x1b[?25h\x1b[?1049l")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0


def test_ctrl_c_ends_it_with_130_and_the_terminal_as_it_was() -> None:
    child = at_a_terminal()
    child.expect("\x1b\\[32m")
    child.sendintr()
    child.expect_exact("\x1b[?25h\x1b[?1049l")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 130


@pytest.mark.parametrize("words", [["fail"]])
def test_an_agent_that_never_answered_is_an_error(words: list[str]) -> None:
    child = at_a_terminal(*words)
    child.expect("the agent does not answer")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 1
