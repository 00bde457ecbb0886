"""Which turns become pivots: the rules, and what a few samples say about a turn. Pure and instant."""

from __future__ import annotations

from pivotrl.selection.rules import Rule as Rule
from pivotrl.selection.rules import SelectionOptions as SelectionOptions
from pivotrl.selection.rules import require_pivots as require_pivots
from pivotrl.selection.rules import select as select
from pivotrl.selection.rules import signal_variance as signal_variance
