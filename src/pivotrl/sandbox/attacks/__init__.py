"""Attempts to get out of a sandbox, judged by what happens to the host. ``pivotrl doctor --sandbox`` runs them.

Each attempt is a few lines of Python and its control: the same lines where they should succeed (on the host, against
the same bait, as the user that sandboxed code runs as; or answered by a filter in the kernel's place). An attempt that
is stopped counts as blocked only when its control was seen to succeed. Nothing is changed that is not the suite's own:
scripts open settings and do not write them, call the kernel with arguments that it cannot take, and kill nothing where
they find the host's processes.
"""

from pivotrl.sandbox.attacks.attempt import CATEGORIES, AttackResult, Attempt, Category
from pivotrl.sandbox.attacks.running import all_attempts, run_attacks

__all__ = ["CATEGORIES", "AttackResult", "Attempt", "Category", "all_attempts", "run_attacks"]
