"""Stages the function app as the real host wants it and zips it reproducibly.

The host reads only the direct sub-folders of the package's root, so functions/NAME/function.json is staged as
NAME/function.json beside host.json and the program. The program keeps its run bit, which some plans need. Two runs over
the same files give the same bytes: entries are sorted, and their time is fixed.

The program must be static, so that the host image's C library does not matter, and must come to its own first message: a
C library that knows no packed relocations (glibc before 2.36) makes one that crashes. --allow-dynamic is for trying a build
of this machine on this machine.

Usage: package.py [--allow-dynamic] HANDLER STAGE ZIP
"""

import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = "portcullis-handler"
# The first time that a zip can hold; a real one would differ at each run.
FIXED_TIME = (1980, 1, 1, 0, 0, 0)


def stage(handler: Path, folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    shutil.copyfile(ROOT / "host.json", folder / "host.json")
    for function in sorted((ROOT / "functions").glob("*/function.json")):
        target = folder / function.parent.name
        target.mkdir()
        shutil.copyfile(function, target / "function.json")
    shutil.copytree(ROOT / "policies", folder / "policies")
    shutil.copyfile(handler, folder / PROGRAM)
    (folder / PROGRAM).chmod(0o755)


def pack(folder: Path, archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            entry = zipfile.ZipInfo(name, FIXED_TIME)
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name == PROGRAM else 0o100644) << 16
            out.writestr(entry, path.read_bytes())


def is_static(program: Path) -> bool:
    """Whether an ELF program of 64 bits asks for no interpreter (program header PT_INTERP, System V ABI)."""
    data = program.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        return False
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    interp = 3
    return all(struct.unpack_from("<I", data, offset + n * size)[0] != interp for n in range(count))


def comes_up(program: Path) -> bool:
    """Whether it ends by itself where no setting is there, rather than by a signal."""
    return subprocess.run([program.resolve()], env={}, capture_output=True, timeout=60, check=False).returncode >= 0


def main() -> int:
    arguments = [argument for argument in sys.argv[1:] if argument != "--allow-dynamic"]
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    handler, folder, archive = (Path(argument) for argument in arguments)
    if not handler.is_file():
        print(f"{handler} is not there: build it first, `make package` does", file=sys.stderr)
        return 1
    if len(arguments) == len(sys.argv) - 1 and not is_static(handler):
        print(f"{handler} is not a static program: the host's image may lack what it needs; `make package` builds one", file=sys.stderr)
        return 1
    if not comes_up(handler):
        print(f"{handler} crashes when it is started: build it with glibc 2.36 or later (Debian 12, Ubuntu 24.04)", file=sys.stderr)
        return 1
    stage(handler, folder)
    pack(folder, archive)
    print(f"{archive}: {archive.stat().st_size} bytes, {len(list(folder.iterdir()))} entries at its root")
    return 0


if __name__ == "__main__":
    sys.exit(main())
