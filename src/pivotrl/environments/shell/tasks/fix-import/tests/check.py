from pathlib import Path

APP = Path("/app")
import subprocess

def run(*words, code=0):
    done = subprocess.run(words, cwd=APP, capture_output=True, text=True, timeout=20)
    assert done.returncode == code, done
    return done.stdout


assert run("python3", "/app/main.py") == "total 12\n"
assert (APP / "shop/prices.py").read_text() == "PRICES = {'tea': 5, 'milk': 2}\n"
code = "import sys; sys.path.insert(0, '/app'); from shop.cart import total; print(total(['milk', 'milk']), total([]))"
assert run("python3", "-c", code) == "4 0\n"
