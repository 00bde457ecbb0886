from pathlib import Path

APP = Path("/app")
import subprocess

def run(*words, code=0):
    done = subprocess.run(words, cwd=APP, capture_output=True, text=True, timeout=20)
    assert done.returncode == code, done
    return done.stdout


code = "import sys; sys.path.insert(0, '/app'); from stats import median; v = [5, 1, 4, 2]; print(median(v), v, median([3, 1, 2]), median([7]))"
assert run("python3", "-c", code) == "3.0 [5, 1, 4, 2] 2 7\n"
code = "import sys; sys.path.insert(0, '/app'); from stats import median\ntry:\n    median([])\nexcept ValueError:\n    print('refused')"
assert run("python3", "-c", code) == "refused\n"
