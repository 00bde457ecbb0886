def load(name):
    return f"load {name}"


def reload(name):
    return load(name) + "!"
