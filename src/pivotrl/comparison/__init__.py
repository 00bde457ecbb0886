"""Compares training methods over learning rates and seeds: every checkpoint is a point of score, forgetting and cost.

:mod:`~pivotrl.comparison.arms` names what is compared, :mod:`~pivotrl.comparison.trials` trains and measures,
:mod:`~pivotrl.comparison.table` holds the points, and :mod:`~pivotrl.comparison.choosing` and
:mod:`~pivotrl.comparison.reaching` answer the questions: the score at equal forgetting, the forgetting at equal score,
and the cost of reaching a score. Validation tasks choose the learning rate and the checkpoint; test tasks give the
numbers.
"""
