from pathlib import Path

APP = Path("/app")
import subprocess

def run(*words, code=0):
    done = subprocess.run(words, cwd=APP, capture_output=True, text=True, timeout=20)
    assert done.returncode == code, done
    return done.stdout


code = "import sys; sys.path.insert(0, '/app'); from slug import slug; print(*map(slug, ['Hello,  World! 2', '...', '--A_b--', 'x', '', 'Caf\u00e9 9']), sep='|')"
assert run("python3", "-c", code) == "hello-world-2|untitled|a-b|x|untitled|caf-9\n"
