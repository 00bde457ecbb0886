"""``python -m pivotrl.cli``."""

from pivotrl.cli import main

main()
