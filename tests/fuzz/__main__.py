"""``python -m tests.fuzz TARGET [--seconds N] [--keep FOLDER]``: a coverage-guided run, on atheris.

It begins with what lies in ``tests/fuzz/corpus/TARGET`` and goes on until a second is a bug: an input that fails, or that
takes longer than ``--slow`` seconds, is written to the working folder. Add it to the corpus once it is fixed: pytest
runs all of that, without atheris. ``--keep`` names a folder for the inputs that reached new code.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Never returns: libFuzzer ends the process, with 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--slow", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        parser.error("atheris is missing: pip install -e '.[fuzz]'")
    with atheris.instrument_imports(include=["actors", "shimproc", "tests.fuzz"]):
        module = importlib.import_module("tests.fuzz.targets")
    logging.disable(logging.CRITICAL)  # what is provoked here is no news
    targets = module.TARGETS
    if options.target not in targets:
        parser.error(f"no target {options.target}; there are {', '.join(targets)}")
    kept = options.keep or Path(tempfile.mkdtemp(prefix="shimyard-corpus-"))
    kept.mkdir(parents=True, exist_ok=True)
    seeds = module.CORPUS / options.target
    arguments = [
        sys.argv[0],
        str(kept),
        *([str(seeds)] if seeds.is_dir() else []),
        f"-max_total_time={options.seconds}",
        f"-timeout={options.slow}",
        "-max_len=4096",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, targets[options.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
