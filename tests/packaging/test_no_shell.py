"""How programs are run: never through a shell, each place known and looked at."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

FORBIDDEN = frozenset(
    [
        "os.system", "os.popen", "pty.spawn", "subprocess.getoutput", "subprocess.getstatusoutput",
        "asyncio.create_subprocess_shell", "eval", "exec", "compile", "pickle.load", "pickle.loads",
        "marshal.loads", "yaml.load", "yaml.unsafe_load", "shutil.unpack_archive",
    ]
)  # fmt: skip
"""What runs text, or makes objects of it."""
UNPACKING = frozenset(["extractall", "extract"])
"""Methods that write where an archive says."""
STARTING = ("subprocess.", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "pty.")
FUNCTIONS = frozenset(["create_subprocess_exec", "subprocess_exec", "subprocess_shell", "Popen"])

REVIEWED: Mapping[tuple[str, str], str] = {
    ("edgeagent/node/static/texts.py", "asyncio.create_subprocess_exec"): (
        "this Python on a module of edgeagent's own; the manifests go to its standard input"
    ),
    ("edgeagent/node/keyfiles.py", "subprocess.run"): (
        "systemd-creds, with a file's name and a method of sealing that are both constants; keys go through"
        " standard input and output"
    ),
    ("edgeagent/node/plugins/child.py", "subprocess.Popen"): (
        "this Python on a module of edgeagent's own, with the number of a descriptor"
    ),
    ("edgeagent/node/pods/sandbox.py", "asyncio.create_subprocess_exec"): (
        "unshare, mount and the like on paths made of a pod's uid, sizes as numbers, and the reboot command"
        " of the agent's own configuration; no word of a manifest"
    ),
    ("edgeagent/node/pods/volumes/mounter.py", "asyncio.create_subprocess_exec"): (
        "mount and umount: targets are below the agent's folder; a source is an absolute path, or a"
        " descriptor in /proc; sizes are numbers. No value can be taken for an option"
    ),
    ("plugins/edgeagent_logs/journal.py", "subprocess.Popen"): (
        "journalctl: units are of the agent's own configuration, checked by a pattern, each the value of an"
        " option; the cursor is one that journalctl said, again as an option's value"
    ),
    ("plugins/edgeagent_network/programs.py", "subprocess.run"): (
        "ip, nft, wg, sysctl, conntrack, unbound-control: arguments are constants, names made by hashing, and"
        " values that were parsed as addresses, ranges, numbers or keys of 32 bytes; else standard input"
    ),
    ("plugins/edgeagent_network/programs.py", "subprocess.Popen"): (
        "unbound, with a configuration file that the plugin wrote"
    ),
}
"""Every place where a program is started, and why nothing from outside can become its words."""


@cache
def sources(checkout: Path) -> list[tuple[str, list[tuple[str, ast.Call]]]]:
    """Each file of the program, with its calls."""
    return [
        (str(path.relative_to(checkout)), list(calls(ast.parse(path.read_text()))))
        for folder in ("edgeagent", "plugins")
        for path in sorted((checkout / folder).rglob("*.py"))
    ]


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Each call with the full name of what is called, whatever it was imported as."""
    origins: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            origins.update({(one.asname or one.name): f"{node.module}.{one.name}" for one in node.names})
        elif isinstance(node, ast.Import):
            origins.update({one.asname: one.name for one in node.names if one.asname})
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            first, dot, rest = name.partition(".")
            yield origins.get(first, first) + dot + rest, node


def starts_a_program(name: str) -> bool:
    return name.startswith(STARTING) or name.rpartition(".")[2] in FUNCTIONS


def test_no_shell_and_no_text_that_is_run(checkout: Path) -> None:
    for path, made in sources(checkout):
        for name, call in made:
            where = f"{path}:{call.lineno}: {name}"
            assert name not in FORBIDDEN, where
            assert not any(word.arg == "shell" for word in call.keywords), where
            assert name.rpartition(".")[2] not in UNPACKING, where


def test_every_place_that_starts_a_program_was_looked_at(checkout: Path) -> None:
    found = {(path, name) for path, made in sources(checkout) for name, _ in made if starts_a_program(name)}
    assert found == set(REVIEWED)


def test_a_program_is_given_a_list_of_words(checkout: Path) -> None:
    """Never one text, which somebody would have to take apart."""
    for path, made in sources(checkout):
        for name, call in made:
            if starts_a_program(name):
                first = call.args[0]
                words = isinstance(first, ast.Starred | ast.List) or ast.unparse(first).startswith(
                    ("list(", "sys.executable")
                )
                assert words, f"{path}:{call.lineno}"


def test_the_check_sees_what_it_should() -> None:
    text = (
        "import subprocess as s, os\nfrom asyncio import create_subprocess_exec as go\n"
        "s.run('x')\ngo('y')\nos.system('z')"
    )
    names = [name for name, _ in calls(ast.parse(text))]
    assert names == ["subprocess.run", "asyncio.create_subprocess_exec", "os.system"]
    assert [starts_a_program(name) for name in names] == [True, True, False]
    assert names[2] in FORBIDDEN


def test_every_program_keeps_to_its_owner(checkout: Path) -> None:
    """What an agent or a hub makes is its owner's alone, whatever the mode that was asked for."""
    made = dict(sources(checkout))
    for path in ("edgeagent/cli/runner.py", "edgeagent/cli/enrolling.py", "edgeagent/cli/edgehub.py"):
        assert "edgeagent.cli.ownerprocess.keep_to_owner" in [name for name, _ in made[path]], path
    code = (
        "import os, resource; from edgeagent.cli.ownerprocess import keep_to_owner; keep_to_owner();"
        "print(os.umask(0), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == f"{0o077} (0, 0)\n"
