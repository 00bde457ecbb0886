import ast

tree = ast.parse(open("stats/middle.py").read())
names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
assert names == ["median", "spread"], names

import sys

sys.path.insert(0, ".")
from stats.middle import median, spread

assert [median(v) for v in ([3, 1, 2], [4, 1, 3, 2], [5], [2.5, 0.5])] == [2, 2.5, 5, 1.5]
assert spread([4, 9, 1]) == 8
print("median and spread hold 7Qd2")
