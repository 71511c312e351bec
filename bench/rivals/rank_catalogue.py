"""Users/s of ranking a whole catalogue in PyTorch: a matrix product and topk.

    rank_catalogue.py THREADS USERS ITEMS WIDTH TOP float32|bf16

Blocks of 128 users. One JSON line: the best of at least three passes.
"""
import json
import sys
import time

import torch

threads, users, items, width, top = (int(text) for text in sys.argv[1:6])
precision = sys.argv[6]
torch.set_num_threads(threads)
torch.manual_seed(1)
dtype = {"float32": torch.float32, "bf16": torch.bfloat16}[precision]
queries, catalogue = torch.randn(users, width).to(dtype), torch.randn(items, width).to(dtype)
best, passes, began = 1e9, 0, time.perf_counter()
with torch.inference_mode():
    scores, ids = (queries[:4] @ catalogue.T).topk(top)
    if not torch.equal(scores[:, 0], (queries[:4] @ catalogue.T).max(1).values):
        sys.exit("not verified: topk is not the top")
    while passes < 3 or time.perf_counter() - began < 2:
        started = time.perf_counter()
        for block in queries.split(128):
            (block @ catalogue.T).topk(top)
        best = min(best, time.perf_counter() - started)
        passes += 1
print(json.dumps({"side": "torch", "precision": precision, "threads": threads, "users": users, "items": items, "width": width, "top": top,
                  "users_per_second": users / best, "torch": torch.__version__}))
