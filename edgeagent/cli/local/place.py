"""Where the agent of this machine is: its configuration and its socket."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeagent.node.config import AgentConfig

DEFAULT_CONFIG = Path("/etc/edgeagent/config.toml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say where it is."""
    parser.add_argument(
        "--config", type=Path, help=f"the configuration file (default: {DEFAULT_CONFIG} where it exists)"
    )
    parser.add_argument(
        "--socket", type=Path, help="the running agent's socket (default: as the configuration says)"
    )


def config_of(arguments: argparse.Namespace) -> "AgentConfig":
    """The configuration; raises ConfigError that names file and place."""
    from edgeagent.node.config import load_config

    return load_config(arguments.config or DEFAULT_CONFIG, required=arguments.config is not None)


def socket_of(arguments: argparse.Namespace) -> Path:
    """The running agent's socket."""
    if arguments.socket is not None:
        return Path(arguments.socket)
    return config_of(arguments).run_dir / "api.sock"
