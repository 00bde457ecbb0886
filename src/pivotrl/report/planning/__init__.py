"""What a profile and a training will cost, from a small pilot or by formula. Pure arithmetic: nothing is sampled here.

pilot.py       what the sampled turns say, as numbers
prompts.py     sizes of all prompts, without a tokenizer
projection.py  totals over all candidate turns, with intervals clustered by task
ways.py        fixed, adaptive and lazy profiling compared
alarms.py      early warnings
planned.py     all of it together
shapes.py      shapes of models, memory for each token
hardware.py    memory and time on hardware that is not at hand
"""
