"""The command line: results on stdout, talk on stderr, one exit code a kind of outcome."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from bayescale.errors import BayescaleError, cannot_be_written

#: 0 done · 2 wrong usage · 3 bad input or a question that cannot be answered · 4 not converged · 5 part of a batch
#: failed · 130 interrupted.
OK, USAGE, INPUT, NOT_CONVERGED, PARTLY, INTERRUPTED = 0, 2, 3, 4, 5, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `bayescale` with these arguments (those of the process by default) and exit."""
    raise SystemExit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; on 2 and 3 with `--json`, the error is one document on stdout.

    A reader of a pipe who leaves before the end takes nothing from the code.
    """
    code = _run(arguments)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except BrokenPipeError:  # nor may the interpreter stumble over it when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except OSError as error:  # no room: what was printed is incomplete
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = _report(cannot_be_written(error, stream.name), wants_json=False)
    return code


def _run(arguments: list[str]) -> int:
    from bayescale.cli.app import app

    wants_json = "--json" in arguments
    try:
        code = app(arguments, standalone_mode=not wants_json, prog_name="bayescale")
        return int(code or OK)
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # Rich and the parser call it a failure
            return OK
        return stop.code if isinstance(stop.code, int) else OK
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return INTERRUPTED
    except BayescaleError as error:
        return _report(error, wants_json)
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.errno is None:
            raise
        return _report(cannot_be_written(error), wants_json and error.filename is not None)  # else of a stream
    except Exception as error:
        told = getattr(error, "format_message", None)
        if told is None:  # anything but the parser's own usage errors is a fault of ours
            raise
        return _report(BayescaleError(told(), code="BS-U001"), wants_json)


def _report(error: BayescaleError, wants_json: bool) -> int:
    with suppress(OSError):
        if wants_json:
            print(json.dumps(error.to_json(), ensure_ascii=False))
        else:
            print(f"Error: {error}", file=sys.stderr)
    return USAGE if error.code.startswith(("BS-U", "BS-L")) else INPUT
