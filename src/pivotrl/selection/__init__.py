"""Which turns become pivots: the rules, and what a few samples say about a turn. Pure and instant."""

from __future__ import annotations

from pivotrl.selection.draws import signal_variance as signal_variance
from pivotrl.selection.limits import Facts as Facts
from pivotrl.selection.options import Order as Order
from pivotrl.selection.options import Rule as Rule
from pivotrl.selection.options import SelectionOptions as SelectionOptions
from pivotrl.selection.rules import require_pivots as require_pivots
from pivotrl.selection.rules import select as select
