from pathlib import Path

APP = Path("/app")
import subprocess

def run(*words, code=0):
    done = subprocess.run(words, cwd=APP, capture_output=True, text=True, timeout=20)
    assert done.returncode == code, done
    return done.stdout


assert run("python3", "/app/code/main.py") == "load a load b! load\n"
store, main = (APP / "code/store.py").read_text(), (APP / "code/main.py").read_text()
assert "def read_all(name)" in store and "def reload(name)" in store and "def load(" not in store
assert "import read_all, reload" in main and "payload = read_all(" in main
