"""Whether two final answers are the same: numbers, units, dates, mathematics, texts."""
