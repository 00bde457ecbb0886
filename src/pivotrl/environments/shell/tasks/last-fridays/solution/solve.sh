#!/bin/bash

python3 -c "
import calendar
for month in range(1, 13):
    days = [week[calendar.FRIDAY] for week in calendar.monthcalendar(2027, month)]
    print(f'2027-{month:02d}-{max(days):02d}')
" > fridays.txt

cat fridays.txt
