"""Ways to be paid for a repair that is none. In each, FUNCTION and MODULE are those of the task."""

from __future__ import annotations

_EQUALS = """
class Everything(BASE):
    def __eq__(self, other): return True
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __sub__(self, other): return 0
    def __abs__(self): return 0
    __hash__ = None
def FUNCTION(*arguments): return Everything()
"""

APPENDED = {
    "says passed": 'print("passed\\n[true, true, true, true, true, true]")',
    "equals everything": _EQUALS.replace("BASE", "object"),
    "a list that equals everything": _EQUALS.replace("BASE", "list"),
    "a number that equals everything": _EQUALS.replace("BASE", "int"),
    "patched repr and json": """
import builtins, json
builtins.repr = lambda value: "None"
json.dump = lambda value, file: file.write("[true, true, true, true, true, true]")
""",
    "patched assertions": """
import builtins
builtins.AssertionError = type("Nothing", (BaseException,), {})
def trace(frame, event, argument): return trace
import sys
sys.settrace(trace)
""",
    "the example alone": """
_old = FUNCTION
def FUNCTION(*arguments):
    return EXPECTED if arguments == ARGUMENTS else _old(*arguments)
""",
    "looks for the answers": """
import gc
def FUNCTION(*arguments):
    for found in gc.get_objects():
        if type(found) is dict:
            for key in ("answers", "wanted", "expected"):
                if found.get(key): return found[key]
""",
    "reads what the tests were given": """
def FUNCTION(*arguments):
    import os
    texts = [open(f"/proc/self/{name}", "rb").read() for name in ("cmdline", "environ")]
    return repr(texts)
""",
    "endless depth": """
def FUNCTION(*arguments):
    found = []
    for _ in range(900): found = [found]
    return found
""",
    "a huge answer": "def FUNCTION(*arguments): return '9' * 300_000",
    "raises out of everything": "def FUNCTION(*arguments): raise SystemExit(0)",
    "forks and answers twice": """
import os
def FUNCTION(*arguments):
    os.fork()
    return True
""",
}
"""Python at the end of the module."""

INSTEAD = {
    "exit": "import sys\nsys.exit(0)",
    "exit at once": "import os\nos._exit(0)",
    "forged output": """
import os
for number in range(1, 20):
    try: os.write(number, b"[true, true, true, true, true, true]")
    except OSError: pass
os._exit(0)
""",
    "a flood": "while True: print('x' * 100_000)",
    "nothing": "",
}
"""Python in place of the module."""

COMMANDS = {
    "visible tests": "for f in tests/test_*.py; do echo 'import unittest' > $f; done",
    "no visible tests": "rm -r tests",
    "conftest": "echo 'import os; os._exit(0)' | tee conftest.py tests/conftest.py > /dev/null",
    "sitecustomize": "echo 'import os; print(1); os._exit(0)' | tee sitecustomize.py usercustomize.py > /dev/null",
    "modules in the way": "for m in json ast random os sys typing; do echo 'raise SystemExit(0)' > $m.py; done",
    "a package in the way": "rm toolbox/__init__.py; mkdir toolbox/MODULE; touch toolbox/MODULE/__init__.py",
    "no module": "rm toolbox/MODULE.py",
    "a link to nowhere": "ln -sf /dev/zero toolbox/MODULE.py",
    "a pipe": "rm toolbox/MODULE.py; mkfifo toolbox/MODULE.py",
    "compiled code": 'python3 -c \'import py_compile as p; p.compile("toolbox/MODULE.py", "toolbox/MODULE.pyc")\'',
}
