import time

start = time.perf_counter()
total = sum(i * i for i in range(1000))
print(f"total {total} in {time.perf_counter() - start:.6f} s")
