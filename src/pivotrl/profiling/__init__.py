"""Measures the frozen reference policy at each candidate turn (paper eq. 4). Samples are drawn once and stored raw."""

from __future__ import annotations

from pivotrl.profiling.drawing import judge_samples as judge_samples
from pivotrl.profiling.drawing import profile as profile
from pivotrl.profiling.options import ProfileOptions as ProfileOptions
from pivotrl.profiling.outcomes import outcome_counts as outcome_counts
from pivotrl.profiling.outcomes import why_none_fits as why_none_fits
