"""The lines and the plot of bench/bench_rivals, from what its parts left behind.

    summary.py COMMIT SCRATCH OUT
"""
import json
import os
import statistics
import sys

commit, scratch, out = sys.argv[1:4]


def lines(name):
    path = os.path.join(scratch, name)
    return [json.loads(line) for line in open(path)] if os.path.exists(path) else []


def show(comparison, **values):
    print(json.dumps({"bench": "rivals", "comparison": comparison, "commit": commit, **values}), flush=True)


for kind, compute in ((kind, compute) for kind in ("hstu", "large") for compute in ("float32", "bf16")):
    theirs, ours = lines(f"step-{kind}-{compute}.json"), lines(f"run-{kind}-{compute}.jsonl")
    if theirs:
        ours = [line["tokens_per_second"] for line in ours if line["kind"] == "train" and line["step"] > 5]
        weir, authors = statistics.median(ours), statistics.median(line["tokens_per_second"] for line in theirs)
        show(f"whole step, ml-1m {kind}", compute=compute, n=len(theirs), torch=theirs[0]["torch"], threads=theirs[0]["threads"],
             weir_tokens_per_second=round(weir), torch_tokens_per_second=round(authors), ratio=round(weir / authors, 1))

layers = lines("layer.json")
curves = {}
for compute, tokens in sorted({(line["compute"], line["tokens"]) for line in layers}, reverse=True):
    best = {}
    for line in layers:
        if (line["compute"], line["tokens"]) == (compute, tokens):
            seconds = line["forward_s"] + line["backward_s"]
            best[line["side"]] = min(best.get(line["side"], seconds), seconds)
    if len(best) == 2:  # weir has no bf16 where the processor has none
        for side in best:
            curves.setdefault((side, compute), []).append((tokens, tokens / best[side]))
        show("one layer, D = 512", compute=compute, tokens=tokens, weir_s=best["weir"], torch_s=best["transformer"],
             ratio=round(best["transformer"] / best["weir"], 2))

ranks = lines("rank.json")
for shape in sorted({(line["users"], line["items"], line["width"]) for line in ranks}):
    best = {}
    for line in ranks:
        if (line["users"], line["items"], line["width"]) == shape:
            for key in ("users_per_second", "best_ten"):
                side = line["side"], line.get("precision", key)
                best[side] = max(best.get(side, 0), line.get(key, 0))
    for precision in "float32", "bf16":
        show("ranking the catalogue", users=shape[0], items=shape[1], width=shape[2], torch_precision=precision,
             weir_users_per_second=round(best["weir", "users_per_second"]), weir_best_ten=round(best["weir", "best_ten"]),
             torch_users_per_second=round(best["torch", precision]),
             ratio=round(best["weir", "users_per_second"] / best["torch", precision], 1))

if out and curves:
    width, height, left, bottom = 620, 340, 70, 290
    most = max(value for curve in curves.values() for _, value in curve) * 1.1
    x = {tokens: left + 30 + 90 * i for i, tokens in enumerate(sorted({line["tokens"] for line in layers}))}
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
           '<title>One layer, D = 512, forward and backward on one core: tokens a second by length</title>',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    for step in (most * i / 4 for i in range(5)):
        y = bottom - 260 * step / most
        svg.append(f'<line x1="{left}" y1="{y:.1f}" x2="{max(x.values()) + 20}" y2="{y:.1f}" stroke="#ddd"/>'
                   f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{step:,.0f}</text>')
    for tokens in x:
        svg.append(f'<text x="{x[tokens]}" y="{bottom + 18}" text-anchor="middle">{tokens:,}</text>')
    svg.append(f'<text x="{(left + max(x.values())) / 2}" y="{height - 10}" text-anchor="middle">events in the history</text>')
    svg.append(f'<text x="16" y="{bottom - 120}" transform="rotate(-90 16 {bottom - 120})" text-anchor="middle">tokens/s</text>')
    above = bottom + 100.0
    for side, compute in sorted(curves, key=lambda curve: curves[curve][-1][1]):
        name, colour = {"weir": ("HSTU, weir", "#1f6fb4"), "transformer": ("Transformer, PyTorch", "#c44e1f")}[side]
        dash = ' stroke-dasharray="6 4"' if compute == "float32" else ""
        at = [(x[tokens], bottom - 260 * value / most) for tokens, value in curves[(side, compute)]]
        text = " ".join(f"{a:.1f},{b:.1f}" for a, b in at)
        svg.append(f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        svg += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{colour}"/>' for a, b in at]
        above = min(at[-1][1] + 4, above - 16)
        svg.append(f'<text x="{at[-1][0] + 12:.1f}" y="{above:.1f}" fill="{colour}">{name}, {compute}</text>')
    svg.append("</svg>")
    with open(os.path.join(out, "layers.svg"), "w") as file:
        file.write("\n".join(svg) + "\n")
