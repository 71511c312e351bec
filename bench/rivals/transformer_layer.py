"""Seconds of forward and backward of one Transformer layer on PyTorch's fused attention.

    transformer_layer.py THREADS WIDTH HEADS float32|bf16 LENGTH...

Pre-norm: layer norm, projections of q, k and v in one product, scaled_dot_product_attention (causal), output projection;
layer norm, two products with a hidden layer of 4 WIDTH and GELU; residuals. One sequence; in bf16 all of it, weights too. One JSON line a length:
the best of at least three calls.
"""
import json
import sys
import time

import torch
import torch.nn.functional as F

threads, width, heads = (int(text) for text in sys.argv[1:4])
compute = sys.argv[4]
dtype = {"float32": torch.float32, "bf16": torch.bfloat16}[compute]
torch.set_num_threads(threads)
torch.manual_seed(1)


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.qkv, self.output = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.wide, self.narrow = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def attend(self, x, attention):
        q, k, v = self.qkv(self.norm1(x)).view(1, -1, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        return attention(q, k, v).transpose(1, 2).reshape(1, -1, width)

    def forward(self, x, attention):
        x = x + self.output(self.attend(x, attention))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


def fused(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def plain(q, k, v):
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v


layer = Layer()
x = torch.randn(1, 256, width)
if not torch.allclose(layer(x, fused), layer(x, plain), atol=1e-4):
    sys.exit("not verified: fused and plain attention differ")
with torch.no_grad():
    exact = layer(x, fused)
    layer.to(dtype)
    if not torch.allclose(layer(x.to(dtype), fused).float(), exact, atol=1e-4 if dtype == torch.float32 else 0.05):
        sys.exit("not verified: the layer differs from its float32")
for length in map(int, sys.argv[5:]):
    x, gradient = torch.randn(1, length, width, dtype=dtype, requires_grad=True), torch.randn(1, length, width, dtype=dtype)
    best, calls, began = [1e9, 1e9], 0, time.perf_counter()
    while calls < 3 or time.perf_counter() - began < 2:
        layer.zero_grad()
        x.grad = None
        started = time.perf_counter()
        y = layer(x, fused)
        middle = time.perf_counter()
        y.backward(gradient)
        ended = time.perf_counter()
        if calls > 0:
            best = [min(best[0], middle - started), min(best[1], ended - middle)]
        calls += 1
    print(json.dumps({"side": "transformer", "compute": compute, "threads": threads, "width": width, "heads": heads, "tokens": length,
                      "forward_s": best[0], "backward_s": best[1], "torch": torch.__version__}), flush=True)
