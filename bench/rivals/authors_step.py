"""Tokens/s of whole training steps of the authors' code on the processor.

    authors_step.py AUTHORS DATA hstu|large float32|bf16 THREADS STEPS

Model, loss and sampler are the authors'; they are called as their trainer calls them, with AdamW, without its anomaly
detection (which slows it) and without its evaluation; bf16 is their trainer's main_module_bf16. The three operators that they take from fbgemm are written here in
PyTorch's own, for versions of PyTorch that fbgemm has no build for. One JSON line.
"""
import json
import statistics
import sys
import time

import torch

import events

authors, data, kind, compute, threads, steps = *sys.argv[1:5], int(sys.argv[5]), int(sys.argv[6])
torch.set_num_threads(threads)
torch.manual_seed(1)
sys.path.insert(0, authors)

library = torch.library.Library("fbgemm", "DEF")
library.define("asynchronous_complete_cumsum(Tensor lengths) -> Tensor")
library.define("jagged_to_padded_dense(Tensor values, Tensor[] offsets, SymInt[] max_lengths, float padding_value=0) -> Tensor")
library.define("dense_to_jagged(Tensor dense, Tensor[] offsets, SymInt? total_L=None) -> (Tensor, Tensor[])")


def places(offsets, longest):
    """For each row of a ragged tensor, its row in the padded one."""
    lengths = offsets[1:] - offsets[:-1]
    users = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return users * longest + torch.arange(int(offsets[-1])) - offsets[:-1][users]


def cumulate(lengths):
    return torch.cat([lengths.new_zeros(1), torch.cumsum(lengths, 0)])


def pad(values, offsets, max_lengths, padding_value=0.0):
    longest, users = int(max_lengths[0]), len(offsets[0]) - 1
    padded = values.new_full((users * longest, values.shape[-1]), padding_value)
    return padded.index_copy(0, places(offsets[0], longest), values).view(users, longest, -1)


def unpad(dense, offsets, total_L=None):
    longest = dense.shape[1]
    return dense.reshape(-1, dense.shape[-1]).index_select(0, places(offsets[0], longest)), offsets


library.impl("asynchronous_complete_cumsum", cumulate, "CompositeImplicitAutograd")
library.impl("jagged_to_padded_dense", pad, "CompositeImplicitAutograd")
library.impl("dense_to_jagged", unpad, "CompositeImplicitAutograd")

import gin  # noqa: E402
from generative_recommenders.research.modeling.sequential.autoregressive_losses import LocalNegativesSampler  # noqa: E402
from generative_recommenders.research.modeling.sequential.embedding_modules import LocalEmbeddingModule  # noqa: E402
from generative_recommenders.research.modeling.sequential.encoder_utils import get_sequential_encoder  # noqa: E402
from generative_recommenders.research.modeling.sequential.input_features_preprocessors import (  # noqa: E402
    LearnablePositionalEmbeddingInputFeaturesPreprocessor)
from generative_recommenders.research.modeling.sequential.losses.sampled_softmax import SampledSoftmaxLoss  # noqa: E402
from generative_recommenders.research.modeling.sequential.output_postprocessors import L2NormEmbeddingPostprocessor  # noqa: E402
from generative_recommenders.research.modeling.similarity_utils import get_similarity_function  # noqa: E402

WIDTH, LONGEST, OUTPUT, USERS = 50, 200, 10, 128
large = kind == "large"
gin.parse_config(f"""
hstu_encoder.num_blocks = {8 if large else 2}
hstu_encoder.num_heads = {2 if large else 1}
hstu_encoder.dqk = {25 if large else 50}
hstu_encoder.dv = {25 if large else 50}
hstu_encoder.linear_dropout_rate = 0.2
""")
item_count = events.load(data)[3]
similarity, _ = get_similarity_function("DotProduct", WIDTH, WIDTH)
model = get_sequential_encoder(
    module_type="HSTU", max_sequence_length=LONGEST, max_output_length=OUTPUT + 1,
    embedding_module=LocalEmbeddingModule(item_count, WIDTH), interaction_module=similarity,
    input_preproc_module=LearnablePositionalEmbeddingInputFeaturesPreprocessor(LONGEST + OUTPUT + 1, WIDTH, 0.2),
    output_postproc_module=L2NormEmbeddingPostprocessor(WIDTH, 1e-6), verbose=False)
if compute == "bf16":
    model = model.to(torch.bfloat16)
loss_module = SampledSoftmaxLoss(num_to_sample=128, softmax_temperature=0.05, model=model)
sampler = LocalNegativesSampler(item_count, model._embedding_module._item_emb, list(range(1, item_count + 1)), True, 1e-6)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0)
model.train()

rates, losses = [], []
source = events.batches(data, USERS, LONGEST)
for step in range(steps + 1):
    ids, when, lengths, targets, target_times = (torch.from_numpy(array) for array in next(source))
    tail = torch.zeros((USERS, OUTPUT + 1), dtype=torch.int64)
    ids, when = torch.cat([ids, tail], 1), torch.cat([when, tail], 1)
    when.scatter_(1, lengths.view(-1, 1), target_times.view(-1, 1))
    started = time.perf_counter()
    ids.scatter_(1, lengths.view(-1, 1), targets.view(-1, 1))
    optimizer.zero_grad()
    embedded = model.get_item_embeddings(ids)
    encoded = model(past_lengths=lengths, past_ids=ids, past_embeddings=embedded, past_payloads={"timestamps": when})
    supervision = ids[:, 1:]
    sampler._item_emb = model._embedding_module._item_emb
    loss, _ = loss_module(lengths=lengths, output_embeddings=encoded[:, :-1, :], supervision_ids=supervision,
                          supervision_embeddings=embedded[:, 1:, :], supervision_weights=(supervision != 0).float(),
                          negatives_sampler=sampler)
    loss.backward()
    optimizer.step()
    seconds = time.perf_counter() - started
    losses.append(float(loss.detach()))
    if step > 0:  # the first warms up
        rates.append(int(lengths.sum()) / seconds)
if not losses[0] > losses[-1]:
    sys.exit(f"not verified: the loss went from {losses[0]} to {losses[-1]}")
print(json.dumps({"side": "authors", "model": kind, "compute": compute, "threads": threads, "torch": torch.__version__, "n": steps,
                  "loss_first": losses[0], "loss_last": losses[-1], "tokens_per_second": statistics.median(rates)}))
