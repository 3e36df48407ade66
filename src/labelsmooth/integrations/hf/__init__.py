"""Label smoothing in the training of models of the library transformers, by one line.

`smooth(model, 0.1)` makes `model(…, labels=…)` in training mode return the smoothed loss, of a language model
by the fused linear loss, without logits; in evaluation mode all stays as it was, so that an evaluation loss
is the plain NLL. Any trainer that calls the model with labels trains with it: that of transformers,
accelerate, a loop of one's own; under DDP and FSDP2, with accumulation, packing, checkpointing, LoRA and
mixed precision.

How: the class of the model is replaced by one that holds the labels back (`models`), and for the time of a
call the output embedding computes the loss where it would have made the logits (`head`). Since the loss
leaves the model by way of that module, hooks of FSDP2 on modules see it. Which models are taken is decided
from the source of their forward (`forwards`, `kinds`), so that none trains by another loss than it seems to.
"""

from labelsmooth.extras import needs_extra

with needs_extra("transformers", tested="transformers 5.24.0"):
    from labelsmooth.integrations.hf.models import smooth
    from labelsmooth.integrations.hf.training_log import log_training

__all__ = ["log_training", "smooth"]
