"""Every trap of discovery: what is wrong with one plugin is said of that plugin, and the others run."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.plugin import API_VERSION
from tests.node.plugin_kit import HEADER, INFO, Kit, on_path, statuses, stopping

FACTS = """
from edgeagent.api.facts import Facts

class Source:
    def facts(self):
        return Facts(labels={"from": NAME})

@hookimpl
def edgeagent_node_facts(ctx):
    return Source()
"""


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    with on_path(Kit(tmp_path), monkeypatch) as made:
        yield made


def good(name: str, extra: str = "") -> str:
    """A plugin that gives one label."""
    return HEADER + INFO.format(name=name) + f"NAME = {name!r}\n" + FACTS + extra


def _labels(kit: Kit) -> list[str]:
    """Which plugins answer, in call order."""

    async def main() -> list[str]:
        async with stopping(kit.host()) as host:
            return [(await source.facts()).labels["from"] for source in host.node_facts()]

    return asyncio.run(main())


BROKEN = {
    "import error": (
        "import no_such_module_anywhere\n",
        "cannot be imported: ModuleNotFoundError: No module",
    ),
    "syntax error": ("def (:\n", "cannot be imported: SyntaxError"),
    "exit at import": ("raise SystemExit(1)\n", "cannot be imported: SystemExit: 1"),
    "misspelt hook": (
        good("bad", "@hookimpl\ndef edgeagent_netwrok(ctx):\n    return None\n"),
        "its hooks are not those of the contract: PluginValidationError: unknown hook 'edgeagent_netwrok'",
    ),
    "hook without the prefix": (
        good("bad", "@hookimpl\ndef network(ctx):\n    return None\n"),
        "its hooks are not those of the contract: PluginValidationError: unknown hook 'network'",
    ),
    "hook without the marker": (
        good("bad", "def edgeagent_network(ctx):\n    return None\n"),
        "edgeagent_network is not marked with hookimpl",
    ),
    "unknown argument": (
        good("bad", "@hookimpl\ndef edgeagent_network(context):\n    return None\n"),
        "its hooks are not those of the contract: PluginValidationError: Plugin 'bad' for hook",
    ),
    "wrapper": (
        good("bad", "@hookimpl(wrapper=True)\ndef edgeagent_network(ctx):\n    return (yield)\n"),
        "edgeagent_network is a wrapper: it may not wrap what other plugins do",
    ),
    "no plugin_info": (HEADER + "NAME = 'bad'\n" + FACTS, "it has no edgeagent_plugin_info"),
    "plugin_info of another type": (
        HEADER + "@hookimpl\ndef edgeagent_plugin_info():\n    return {'name': 'bad'}\n",
        "edgeagent_plugin_info answered with dict, expected PluginInfo",
    ),
    "plugin_info raises": (
        HEADER + "@hookimpl\ndef edgeagent_plugin_info():\n    raise ValueError('broken')\n",
        "edgeagent_plugin_info raised ValueError: broken",
    ),
    "plugin_info ill-typed": (
        HEADER + "@hookimpl\ndef edgeagent_plugin_info():\n"
        "    return PluginInfo(name='bad', version=1, summary='s')\n",
        "edgeagent_plugin_info: version: expected str, got int",
    ),
    "another API version": (
        HEADER + "@hookimpl\ndef edgeagent_plugin_info():\n"
        "    return PluginInfo(name='bad', version='1', summary='s', api_version=99)\n",
        f"it is written for version 99 of the plugin API, this agent has version {API_VERSION}",
    ),
    "another name": (
        HEADER + INFO.format(name="other"),
        "its entry point is named bad, but edgeagent_plugin_info says other",
    ),
    "no workers": (
        HEADER + "@hookimpl\ndef edgeagent_plugin_info():\n"
        "    return PluginInfo(name='bad', version='1', summary='s', lane=LaneSpec(workers=0))\n",
        "edgeagent_plugin_info: lane.workers: must be between 1 and 64",
    ),
    "schema of another type": (
        good("bad", "@hookimpl\ndef edgeagent_config_schema():\n    return dict\n"),
        "edgeagent_config_schema answered with dict, expected a subclass of PluginConfig",
    ),
    "schema raises": (
        good("bad", "@hookimpl\ndef edgeagent_config_schema():\n    return 1 / 0\n"),
        "edgeagent_config_schema raised ZeroDivisionError: division by zero",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_fails_with_its_reason_and_the_others_run(kit: Kit, case: str) -> None:
    source, reason = BROKEN[case]
    kit.install("aaa", good("aaa"))
    kit.install("bad", source)
    kit.install("zzz", good("zzz"))
    seen = statuses(kit.host())
    assert seen["bad"].state == "Failed"
    assert seen["bad"].reason.startswith(reason), seen["bad"].reason
    assert (seen["bad"].distribution, seen["bad"].version) == ("dist-bad", "2.5")
    assert [seen["aaa"].state, seen["zzz"].state] == ["Loaded", "Loaded"]
    assert _labels(kit) == ["zzz", "aaa"], "nothing of the broken one is left registered"


def test_the_module_of_an_entry_point_may_be_missing(kit: Kit) -> None:
    kit.install("bad", "", entry_points="[edgeagent]\nbad = kitplug_bad:nothing\nworse = kitplug_absent\n")
    seen = statuses(kit.host())
    assert "has no attribute 'nothing'" in seen["bad"].reason
    assert "No module named 'kitplug_absent'" in seen["worse"].reason


def test_a_plugin_may_be_an_object_in_a_module(kit: Kit) -> None:
    source = HEADER + (
        "class Plugin:\n"
        "    @hookimpl\n"
        "    def edgeagent_plugin_info(self):\n"
        "        return PluginInfo(name='obj', version='1', summary='s')\n"
        "class Shelf:\n    plugin = Plugin()\n"
    )
    kit.install("obj", source, entry_points="[edgeagent]\nobj = kitplug_obj:Shelf.plugin\n")
    assert statuses(kit.host())["obj"].state == "Loaded"


def test_broken_metadata_hides_nobody_else(kit: Kit) -> None:
    kit.install("bad", "", entry_points="[edgeagent]\nthis line is none\n")
    kit.install("good", good("good"))
    kit.install("unreadable", "", distribution="dist-noise")
    noise = next(kit.site.glob("dist_noise*")) / "entry_points.txt"
    noise.write_bytes(b"[edgeagent]\nx = \xff\xfe\n")
    seen = statuses(kit.host())
    assert seen["good"].state == "Loaded"
    assert seen["dist-bad"].state == "Failed"
    assert seen["dist-bad"].reason.startswith("its metadata cannot be read: ")
    assert [one.state for name, one in seen.items() if "noise" in name] == ["Failed"]


def test_of_two_distributions_with_one_name_the_first_by_name_has_it(kit: Kit) -> None:
    for distribution in ("dist-b", "dist-a"):
        module = f"kitplug_{distribution[-1]}"
        source = good("twin", "raise ImportError\n" * (distribution == "dist-b"))
        kit.install("twin", source, distribution=distribution, module=module)
    twins = [one for one in kit.host().statuses() if one.name == "twin"]
    assert [(one.distribution, one.state, one.reason) for one in twins] == [
        ("dist-a", "Loaded", ""),
        ("dist-b", "Failed", "the name twin is taken by distribution dist-a"),
    ]
    assert "kitplug_b" not in sys.modules


def test_a_third_party_cannot_take_a_first_party_name(kit: Kit) -> None:
    thief = "raise ImportError('not to be imported')\n"
    kit.install("mine", thief, distribution="aaa-first", module="kitplug_thief")
    kit.install("mine", good("mine"), distribution="edgeagent", module="kitplug_mine")
    mine = [one for one in kit.host().statuses() if one.name == "mine"]
    assert [(one.distribution, one.state) for one in mine] == [
        ("edgeagent", "Loaded"),
        ("aaa-first", "Failed"),
    ]
    assert mine[1].reason == "the name mine is taken by distribution edgeagent"


def test_two_entry_points_may_not_share_one_object(kit: Kit) -> None:
    kit.install("one", good("one"), entry_points="[edgeagent]\none = kitplug_one\ntwo = kitplug_one\n")
    seen = statuses(kit.host())
    assert seen["one"].state == "Loaded"
    assert seen["two"].reason == "its entry point names the same object as that of plugin one"


def test_a_distribution_found_twice_is_one(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.install("once", good("once"))
    monkeypatch.syspath_prepend(kit.site)
    assert [one.name for one in kit.host().statuses()].count("once") == 1


def test_a_name_that_could_be_a_path_is_refused(kit: Kit) -> None:
    kit.install("bad", good("bad"), entry_points="[edgeagent]\n../bad = kitplug_bad\n")
    assert "must be lower-case letters" in statuses(kit.host())["../bad"].reason


def test_a_disabled_plugin_is_not_imported(kit: Kit) -> None:
    kit.install("off", "raise ImportError('imported')\n")
    status = statuses(kit.host(off={"enabled": False, "anything": 1}))["off"]
    assert (status.state, status.reason) == ("Stopped", "disabled: plugins.off.enabled is false")
    assert (status.distribution, status.version, status.memory_bytes) == ("dist-off", "2.5", 0)
    assert "kitplug_off" not in sys.modules


def test_the_memory_that_an_import_brings_is_shown(kit: Kit) -> None:
    kit.install("big", good("big", "BALLAST = bytes(range(256)) * (32 * 4096)\n"))
    kit.install("small", good("small"))
    seen = statuses(kit.host())
    assert seen["big"].memory_bytes >= 30 * 1024 * 1024
    assert seen["small"].memory_bytes < 10 * 1024 * 1024


CONFIG = """
import msgspec
from typing import Annotated

class Config(PluginConfig, frozen=True):
    socket: str
    size: Annotated[int, msgspec.Meta(ge=1)] = 1
    names: list[str] = []

    def __post_init__(self):
        if self.socket == "bad":
            raise ValueError("bad is not good")

@hookimpl
def edgeagent_config_schema():
    return Config
"""


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"sockett": "x", "socket": "x"}, "plugins.conf.sockett: unknown field"),
        ({}, "plugins.conf.socket: required field is missing"),
        ({"socket": 5}, "plugins.conf.socket: expected str, got int"),
        ({"socket": "x", "size": 0}, "plugins.conf.size: expected int >= 1"),
        ({"socket": "x", "names": ["a", 1]}, "plugins.conf.names[1]: expected str, got int"),
        ({"socket": "bad"}, "plugins.conf: bad is not good"),
        ({"socket": "x", "enabled": "no"}, "plugins.conf.enabled: expected bool, got str"),
    ],
)
def test_bad_config_fails_that_plugin_with_the_path(
    kit: Kit, section: dict[str, object], reason: str
) -> None:
    kit.install("conf", good("conf", CONFIG))
    kit.install("zzz", good("zzz"))
    seen = statuses(kit.host(conf=section))
    assert (seen["conf"].state, seen["conf"].reason) == ("Failed", reason)
    assert seen["zzz"].state == "Loaded"


def test_good_config_is_taken_with_or_without_enabled(kit: Kit) -> None:
    kit.install("conf", good("conf", CONFIG))
    assert statuses(kit.host(conf={"socket": "x", "enabled": True}))["conf"].state == "Loaded"


def test_a_plugin_without_a_schema_takes_no_keys(kit: Kit) -> None:
    kit.install("plain", good("plain"))
    assert statuses(kit.host(plain={"x": 1}))["plain"].reason == "plugins.plain.x: unknown field"


def test_a_section_for_no_plugin_is_shown(kit: Kit) -> None:
    seen = statuses(kit.host(typo={"x": 1}, off={"enabled": False}))
    assert (seen["typo"].state, seen["typo"].reason) == (
        "Failed",
        "plugins.typo: no plugin of this name is installed",
    )
    assert "off" not in seen
