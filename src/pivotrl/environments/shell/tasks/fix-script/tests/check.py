from pathlib import Path

APP = Path("/app")
import subprocess

def run(*words, code=0):
    done = subprocess.run(words, cwd=APP, capture_output=True, text=True, timeout=20)
    assert done.returncode == code, done
    return done.stdout


import tempfile

with tempfile.TemporaryDirectory() as name:
    for file in ("a b.log", "c.log", "d.txt"):
        Path(name, file).write_text(file)
    run("bash", "/app/tidy.sh", name)
    assert {path.name for path in Path(name).iterdir()} == {"d.txt", "old"}
    assert {path.name for path in Path(name, "old").iterdir()} == {"a b.log", "c.log"}
    run("bash", "/app/tidy.sh", name)
with tempfile.TemporaryDirectory() as name:
    run("bash", "/app/tidy.sh", name)
done = subprocess.run(["bash", "/app/tidy.sh"], capture_output=True, text=True)
assert (done.returncode, done.stdout, done.stderr) == (2, "", "usage: tidy.sh FOLDER\n")
