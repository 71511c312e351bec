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


for kind in ("hstu", "large"):
    theirs, ours = lines(f"step-{kind}.json"), lines(f"run-{kind}.jsonl")
    if theirs:
        ours = [line["tokens_per_second"] for line in ours if line["kind"] == "train" and line["step"] > 5]
        weir, authors = statistics.median(ours), statistics.median(line["tokens_per_second"] for line in theirs)
        show(f"whole step, ml-1m {kind}", n=len(theirs), torch=theirs[0]["torch"], threads=theirs[0]["threads"],
             weir_tokens_per_second=round(weir), torch_tokens_per_second=round(authors), ratio=round(weir / authors, 1))

layers = lines("layer.json")
points = []
for tokens in sorted({line["tokens"] for line in layers}):
    best = {}
    for line in layers:
        if line["tokens"] == tokens:
            seconds = line["forward_s"] + line["backward_s"]
            best[line["side"]] = min(best.get(line["side"], seconds), seconds)
    points.append((tokens, tokens / best["weir"], tokens / best["transformer"]))
    show("one layer, D = 512", tokens=tokens, weir_s=best["weir"], torch_s=best["transformer"],
         ratio=round(best["transformer"] / best["weir"], 2))

ranks = lines("rank.json")
for shape in sorted({(line["users"], line["items"], line["width"]) for line in ranks}):
    best = {}
    for line in ranks:
        if (line["users"], line["items"], line["width"]) == shape:
            best[line["side"]] = max(best.get(line["side"], 0), line["users_per_second"])
    show("ranking the catalogue", users=shape[0], items=shape[1], width=shape[2],
         weir_users_per_second=round(best["weir"]), torch_users_per_second=round(best["torch"]),
         ratio=round(best["weir"] / best["torch"], 1))

if out and points:
    width, height, left, bottom = 560, 320, 70, 270
    most = max(ours for _, ours, _ in points) * 1.1
    x = {tokens: left + 40 + 130 * i for i, (tokens, _, _) in enumerate(points)}

    def curve(values, colour, label):
        at = [(x[tokens], bottom - 240 * value / most) for tokens, value in values]
        text = " ".join(f"{a:.1f},{b:.1f}" for a, b in at)
        dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{colour}"/>' for a, b in at)
        return (f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'
                f'<text x="{at[0][0] + 12:.1f}" y="{at[0][1] - 10:.1f}" fill="{colour}">{label}</text>')

    steps = [most * i / 4 for i in range(5)]
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
           '<title>One layer, D = 512, forward and backward on one core: tokens a second by length</title>',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    for step in steps:
        y = bottom - 240 * step / most
        svg.append(f'<line x1="{left}" y1="{y:.1f}" x2="{width - 20}" y2="{y:.1f}" stroke="#ddd"/>'
                   f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{step:,.0f}</text>')
    for tokens, ours, theirs in points:
        svg.append(f'<text x="{x[tokens]}" y="{bottom + 18}" text-anchor="middle">{tokens:,}</text>')
    svg.append(f'<text x="{width / 2}" y="{height - 10}" text-anchor="middle">events in the history</text>')
    svg.append(f'<text x="16" y="{bottom - 120}" transform="rotate(-90 16 {bottom - 120})" text-anchor="middle">tokens/s</text>')
    svg.append(curve([(tokens, ours) for tokens, ours, _ in points], "#1f6fb4", "HSTU layer, weir"))
    svg.append(curve([(tokens, theirs) for tokens, _, theirs in points], "#c44e1f", "Transformer layer, PyTorch"))
    svg.append("</svg>")
    with open(os.path.join(out, "layers.svg"), "w") as file:
        file.write("\n".join(svg) + "\n")
