from pathlib import Path

APP = Path("/app")
import subprocess

def run(*words, code=0):
    done = subprocess.run(words, cwd=APP, capture_output=True, text=True, timeout=20)
    assert done.returncode == code, done
    return done.stdout


for number, wanted in ((1, "I"), (4, "IV"), (1994, "MCMXCIV"), (2026, "MMXXVI"), (3999, "MMMCMXCIX"), (40, "XL")):
    assert run("python3", "/app/roman.py", str(number)) == wanted + "\n"
for wrong in ("0", "4000", "-3", "ten", "2.5"):
    assert run("python3", "/app/roman.py", wrong, code=1) == ""
