"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

from typing import Any

import typer.main

from bayescale.cli.app import app
from bayescale_pages.markdown import plain, section, table

_EXITS = (
    (0, "done, whatever the verdict"),
    (2, "wrong usage, or the folder of `--out` exists and `--force` was not given"),
    (3, "bad input, an unknown file or data set, or a question that this table or law cannot answer"),
    (4, "not converged: results are written, and marked"),
    (5, "part of a batch failed"),
    (130, "interrupted: the draws so far, if any, are kept and marked"),
)


def commands_page() -> str:
    """Every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    lines = [
        *section(1, "Command line"),
        plain(group.help),
        "Results go to stdout, talk to stderr; every command takes `--json` and then prints one document on stdout and",
        "nothing else. `SOURCE` is a file or the name of a data set, `FIT` the folder that `fit --out` made.",
        "",
        "`bayescale --install-completion` teaches your shell (bash, zsh, fish, PowerShell) to complete commands and",
        "options; `--show-completion` prints the lines instead, to put them where you keep such things.",
        "",
    ]
    for name, command in group.commands.items():
        lines += [*section(2, f"bayescale {name}", f"command-{name}"), plain(command.help or ""), ""]
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        words = " ".join(_argument(p) for p in arguments)
        lines += ["```text", f"bayescale {name} {words + ' ' if words else ''}[options]", "```", ""]
        rows = [(f"`{_argument(p)}`", plain(getattr(p, "help", None) or "")) for p in arguments]
        lines += table(("argument", "meaning"), rows)
        options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
        lines += table(
            ("option", "meaning", "default"), [(_flags(p), plain(p.help or ""), _default(p)) for p in options]
        )
    lines += [*section(2, "Exit codes"), *table(("code", "meaning"), _EXITS)]
    return "\n".join(lines)


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _flags(parameter: Any) -> str:
    flags = "/".join([*parameter.opts, *parameter.secondary_opts])
    value = "" if parameter.is_flag else " " + (parameter.metavar or parameter.name.strip("_").upper())
    return f"`{flags}{value}`" + (" (again for more)" if parameter.multiple else "")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    nothing = parameter.default is None or parameter.is_flag or parameter.default == []
    return "" if nothing else f"`{parameter.default}`"
