from pathlib import Path

APP = Path("/app")
import datetime

days = [datetime.date(2027, 1, 1) + datetime.timedelta(n) for n in range(365)]
fridays = {day.month: day for day in days if day.weekday() == 4}
assert (APP / "fridays.txt").read_text().split() == [str(fridays[month]) for month in range(1, 13)]
