"""Compiled programs: double precision without touching the caller's session, compiled once, kept on disk."""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path
from typing import Any

logger = logging.getLogger("bayescale")

#: Set to a folder to keep compiled programs there, or to "off" to keep none.
CACHE_VARIABLE = "BAYESCALE_CACHE"
CACHE_BYTES = 256 * 1024**2

#: Programs kept in the process; beyond that the one used longest ago goes, since each takes memory maps, of which the
#: system allows a process some 65,000. The disk gives it back in a fraction of a second.
MOST_PROGRAMS = 200

_programs: dict[Hashable, Any] = {}
_locks: dict[Hashable, threading.Lock] = {}
_guard = threading.Lock()
#: NumPyro keeps one stack of handlers a process: two models must not be traced at once.
_tracing = threading.RLock()
_disk_ready = False


def double_precision() -> AbstractContextManager:
    """A context in which JAX computes in float64; the caller's session keeps its own precision outside."""
    import jax

    return jax.enable_x64(True)


def compiled(key: Hashable, function: Callable[..., Any], *arguments: Any, alone: bool = True) -> Any:
    """The program of `function` for arguments of these shapes, compiled ahead of time once a process.

    `key` names everything that `function` closes over. A program that is not `alone`, but one of as many as there are
    cores, uses one core. Call it inside `double_precision()`.
    """
    import jax

    shapes = tuple((getattr(a, "shape", ()), str(getattr(a, "dtype", type(a)))) for a in jax.tree.leaves(arguments))
    full = (key, jax.tree.structure(arguments), shapes, jax.default_backend())
    with _guard:
        lock = _locks.setdefault(full, threading.Lock())
    with lock:
        program = _programs.get(full)
        if program is None:
            keep_on_disk()
            with _tracing:
                lowered = jax.jit(function).lower(*arguments)
            program = lowered.compile(compiler_options=_compiler_options(arguments, alone))
        with _guard:
            _programs.pop(full, None)
            _programs[full] = program
            while len(_programs) > MOST_PROGRAMS:
                del _programs[next(iter(_programs))]
        return program


def _compiler_options(arguments: Any, alone: bool) -> dict[str, Any]:
    """What XLA is kept from on a CPU.

    It hands sums of many numbers to a library, to which what is summed must be written out first: half as long again
    for tables of 1,000 rows. Those of more than 32 it splits into three kernels, slower to compile and to run, for the
    sake of rounding: in single precision it may. And it splits a kernel of a thousand numbers between cores. LLVM's
    second and third level of optimisation cost a third of all compilation, and kernels as short as these run no faster
    for them.
    """
    import jax

    if jax.default_backend() != "cpu":
        return {}
    passes, leaves = ["dot-library-rewriter"], jax.tree.leaves(arguments)
    if not any(getattr(a, "dtype", None) == "float32" for a in leaves):
        passes.append("tree_reduction_rewriter")
    if not alone:
        passes.append("cpu-parallel-task-assigner")
    return {"xla_backend_optimization_level": 1, "xla_disable_hlo_passes": ",".join(passes)}


def forget_programs() -> None:
    """Let go of every compiled program of the process."""
    with _guard:
        _programs.clear()


def one_blas_thread() -> AbstractContextManager:
    """A context in which NumPy and SciPy use one thread: on small matrices more of them wait for each other.

    While JAX compiles or samples in other threads, a search for the mode is ten times faster so.
    """
    import scipy.linalg  # its library must be loaded to be limited
    from threadpoolctl import threadpool_limits

    del scipy
    return threadpool_limits(limits=1, user_api="blas")


def available_cores() -> int:
    """The cores that this process may use, where the system says."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def load_numpyro() -> Any:
    """NumPyro, before any of its submodules; in a notebook its progress bars ask for widgets, which are not needed."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import numpyro
    return numpyro


def keep_on_disk() -> None:
    """Let JAX keep compiled programs in the user's cache folder, unless the session chose a folder itself.

    The folder is named after versions and processor, its size is capped, and any failure only costs time.
    """
    global _disk_ready
    with _guard:
        if _disk_ready:
            return
        _disk_ready = True
        chosen = os.environ.get(CACHE_VARIABLE, "")
        if chosen.lower() == "off":
            return
        try:
            import jax
            from jax.experimental.compilation_cache import compilation_cache

            if jax.config.jax_compilation_cache_dir:
                return
            folder = Path(chosen) if chosen else user_cache_folder() / "programs"
            folder = folder / _fingerprint()
            folder.mkdir(parents=True, exist_ok=True)
            _prune(folder)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
            compilation_cache.reset_cache()
            compilation_cache.set_cache_dir(str(folder))
        except Exception as error:
            logger.info("compiled programs are not kept on disk: %s", error)


def _prune(folder: Path) -> None:
    """Delete the programs used longest ago until the rest fit."""
    files = sorted((f.stat().st_mtime, f.stat().st_size, f) for f in folder.iterdir() if f.is_file())
    excess = sum(size for _, size, _ in files) - CACHE_BYTES
    for _, size, file in files:
        if excess <= 0:
            break
        file.unlink(missing_ok=True)
        excess -= size


def user_cache_folder() -> Path:
    """The folder for bayescale's own files in the user's cache (`$XDG_CACHE_HOME` is respected)."""
    import pooch

    return Path(pooch.os_cache("bayescale"))


def _fingerprint() -> str:
    """Versions and processor: a program compiled for another must not be found."""
    import hashlib

    import jax

    features = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        features = platform.processor()
    host = hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()[:8]
    return f"jax{jax.__version__}-{metadata.version('jaxlib')}-numpyro{metadata.version('numpyro')}-{host}"
