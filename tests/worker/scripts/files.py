"""A user's script that does with files whatever Python can; it says what it finds."""

import glob
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

home = Path(sys.argv[1])
os.chdir(home)
os.makedirs("made/deep")  # the real run must be able to do so, too
Path("made/deep/text").write_text("new")
with open("kept.log", "a") as log:
    log.write(" and more")
with open("rotated.log", "w") as log:
    log.write("second")
os.rename("moved", "elsewhere")
os.replace("rotated.log", "rotated.log.1")
shutil.rmtree("old")
os.remove("lonely")
os.mkdir("old")
os.symlink("kept.log", "link")
os.utime("touched", (1, 1))
descriptor = os.open("by_number", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
os.write(descriptor, b"low")
os.close(descriptor)
with tempfile.NamedTemporaryFile("w", delete=False) as whole:
    whole.write("at once")
shutil.move(whole.name, "whole")
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "scrap").write_text("")
sys.path.insert(0, str(home))
import helper  # noqa: E402, F401

tree = sorted(str(path.relative_to(home)) for path in home.rglob("*"))
walked = sorted(
    os.path.relpath(os.path.join(top, name), home) for top, *two in os.walk(home) for name in [*two[0], *two[1]]
)
refused = []
for what in (
    lambda: os.mkdir("made"),
    lambda: Path("lonely").read_text(),
    lambda: os.rmdir("made"),
    lambda: os.listdir("moved"),
):
    try:
        what()
    except OSError as error:
        refused.append(type(error).__name__)
found = {
    "tree": tree,
    "walked": walked == tree,
    "glob": sorted(glob.glob("made/**/*", recursive=True)),
    "texts": [
        Path(name).read_text()
        for name in ("kept.log", "rotated.log.1", "elsewhere/inside", "link", "by_number", "whole")
    ],
    "old": os.listdir("old"),
    "touched": os.stat("touched").st_mtime,
    "refused": refused,
}
print(json.dumps(found))
