"""Train a language model whose parameters are sharded by FSDP2, with the smoothed loss of a single process.

    pip install '.[transformers]' && torchrun --nproc-per-node 2 examples/fsdp2.py      # on one machine's CPU

The loss is computed inside the model, where the head is whole. Prints it, and that of one process.
"""

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pydoc_data.topics import topics

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig, LlamaForCausalLM

from labelsmooth.integrations.hf import smooth


def train(steps: int, rank: int, size: int) -> torch.Tensor:  # this process's share of the loss of each step
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = smooth(LlamaForCausalLM(LlamaConfig(vocab_size=256, **sizes)), 0.1).train()
    if size > 1:
        mesh = dist.init_device_mesh("cpu", (size,))
        for part in (*model.model.layers, model):
            fully_shard(part, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    text, losses = torch.tensor(list("\n".join(topics.values()).encode())), []
    tokens = 8 * 63 / size  # of a step, as processes take the mean of their gradients
    for rows in text[: steps * 512].reshape(-1, 8, 64).tensor_split(size, dim=1)[rank]:
        loss = model(input_ids=rows, labels=rows, num_items_in_batch=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="1 to 900 (default: %(default)s)")
    steps = parser.parse_args().steps
    if not 1 <= steps <= 900:
        parser.error(f"--steps must lie in 1..900, got {steps}")
    if "RANK" not in os.environ:
        parser.error("start it by torchrun --nproc-per-node 2 examples/fsdp2.py")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nothing leaves the machine
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    one, mean = train(steps, 0, 1), train(steps, rank, size) / size
    dist.all_reduce(mean)
    for step in range(steps if rank == 0 else 0):
        print(f"step {step + 1}  one process {one[step]:.6f}  {size} processes {mean[step]:.6f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
