from store import load, reload

payload = load("a")
print(payload, reload("b"), "load")
