"""The pivot browser: every turn of a run, with what was sampled there, in one page that works from a file.

The page is a template built from ``frontend/``. This folder fills it: an index of all turns, which the page opens with,
and chunks of compressed JSON, which it reads when they are needed.
"""

from __future__ import annotations

from pivotrl.report.browser.writing import ViewOptions as ViewOptions
from pivotrl.report.browser.writing import write_view as write_view
