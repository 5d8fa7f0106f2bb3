"""Fetches the wheel of one transformers release with pip, once, into the user's cache directory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from fusegen.codegen.cache import cache_directory
from fusegen.codegen.sources import PACKAGE, SourceError


def fetch_wheel(version: str) -> Path:
    """The wheel of `version` in the cache directory, downloaded first if it is not there.

    Raises `SourceError` if pip cannot find or fetch it, or if the cache directory cannot be written.
    """
    from packaging.version import Version

    folder = cache_directory() / "wheels"
    wanted = folder / f"{PACKAGE}-{Version(version)}-py3-none-any.whl"
    if wanted.is_file():
        return wanted
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            _download(version, Path(fresh))
            wheels = sorted(Path(fresh).glob("*.whl"))
            if not wheels:
                raise SourceError(f"pip downloaded no wheel for {PACKAGE}=={version}. Give a wheel or a directory.")
            wheels[0].replace(wanted)
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(
            f"cannot keep the wheel of {PACKAGE} {version} in {folder}: {error}. "
            "Set FUSEGEN_CACHE_DIR to a folder that can be written."
        ) from error
    return wanted


def _download(version: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(folder), f"{PACKAGE}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        said = lines[-1] if lines else f"exit status {done.returncode}"
        raise SourceError(
            f"pip could not download {PACKAGE}=={version}: {said}. "
            "Check the version and the network, or give a wheel or a directory."
        )
