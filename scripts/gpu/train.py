#!/usr/bin/env python3
"""A small language model trained for a few steps with PyTorch; says its losses and a digest of its weights.

usage: train.py [--plug FILE] [--layers N] [--width N] [--batch N] [--steps N]

--plug FILE  take memory through coldpress's allocator functions in FILE (docs/pytorch.md)

Everything is deterministic: equal runs print equal digests. AdamW in fp32, bf16 autocast, activations kept.
"""

import argparse
import hashlib
import json
import os
import time

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = self.qkv(self.first(x)).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, w))
        return x + self.down(F.gelu(self.up(self.second(x))))


class Model(nn.Module):
    def __init__(self, layers, width, words):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.blocks = nn.ModuleList(Block(width, width // 64) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def main():
    options = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].removeprefix("usage: "))
    options.add_argument("--plug")
    for name, value in (("layers", 12), ("width", 1024), ("batch", 8), ("steps", 8)):
        options.add_argument(f"--{name}", type=int, default=value)
    chosen = options.parse_args()
    if chosen.plug:
        functions = ("coldpress_torch_malloc", "coldpress_torch_free")
        torch.cuda.memory.change_current_allocator(torch.cuda.memory.CUDAPluggableAllocator(chosen.plug, *functions))
    torch.manual_seed(1)
    torch.use_deterministic_algorithms(True)
    words, length = 8192, 512
    model = Model(chosen.layers, chosen.width, words).cuda()
    trainer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    draw = torch.Generator().manual_seed(2)
    losses, times = [], []
    for _ in range(chosen.steps):
        began = time.monotonic()
        tokens = torch.randint(words, (chosen.batch, length + 1), generator=draw).cuda()
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(tokens[:, :-1])
            loss = F.cross_entropy(logits.float().view(-1, words), tokens[:, 1:].reshape(-1))
        loss.backward()
        trainer.step()
        trainer.zero_grad(set_to_none=True)
        losses.append(loss.item().hex())
        torch.cuda.synchronize()
        times.append(time.monotonic() - began)
    digest = hashlib.sha256()
    for weight in model.parameters():
        digest.update(weight.detach().cpu().numpy().tobytes())
    print(json.dumps({
        "losses": losses, "digest": digest.hexdigest(), "steps_s": [round(t, 4) for t in times],
        "parameters": sum(p.numel() for p in model.parameters()), "torch": torch.__version__,
    }), flush=True)


if __name__ == "__main__":
    main()
