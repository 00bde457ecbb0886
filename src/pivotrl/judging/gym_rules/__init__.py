"""How NeMo Gym's pivot servers reward an action, one server per module; pure functions on JSON texts.

Written from the behaviour of ``nemo-gym`` 0.6.0 and 0.7.0 and tested against both. The rules are Gym's, holes included:
nothing here is ours to mend.
"""
