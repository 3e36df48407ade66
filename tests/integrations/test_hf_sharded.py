"""A smoothed model of transformers under DDP and FSDP2: two processes train what one trains."""

import multiprocessing
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import transformers
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from labelsmooth.integrations.hf import smooth

K, STEPS = 61, 3
WRAPPED = ("DDP", "FSDP2", "FSDP2, the head too", "FSDP2, tied")


def trained(wrapped, rank, size):
    """The parameters after some steps on this process's part of the batch."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=K, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings="tied" in wrapped,
    )  # fmt: skip
    model = smooth(transformers.LlamaForCausalLM(config).double().train(), 0.1)
    ids, labels = torch.randint(3, K, (4, 9)), torch.randint(3, K, (4, 9))
    labels[0, 3:] = -100  # the parts have unequal numbers of tokens
    count = (labels[:, 1:] != -100).sum() / size  # processes take the mean of their gradients
    call = model
    if size > 1 and wrapped == "DDP":
        call = DistributedDataParallel(model)
    elif size > 1:
        for layer in (*model.model.layers, *([model.lm_head] if "head" in wrapped else [])):
            fully_shard(layer)
        fully_shard(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(STEPS):
        optimizer.zero_grad()
        part = slice(rank * 4 // size, (rank + 1) * 4 // size)
        call(input_ids=ids[part], labels=labels[part], num_items_in_batch=count).loss.backward()
        optimizer.step()
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    return [p.detach() for p in whole]


def run(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save({wrapped: trained(wrapped, rank, 2) for wrapped in WRAPPED}, f"{folder}/{rank}.pt")
    dist.barrier()  # neither leaves while the other still talks to it
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-W", "error::UserWarning:torch.distributed.fsdp", __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_two_processes_train_what_one_trains(results, wrapped):
    for mine, others, alone in zip(*(of[wrapped] for of in results), trained(wrapped, 0, 1), strict=True):
        assert torch.equal(mine, others)
        torch.testing.assert_close(mine, alone, rtol=1e-12, atol=1e-15)


if __name__ == "__main__":
    # nothing leaves the machine
    os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
    fork = multiprocessing.get_context("fork")  # of an interpreter that has computed nothing yet
    processes = [fork.Process(target=run, args=(rank, sys.argv[1])) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(abs(process.exitcode) for process in processes))
