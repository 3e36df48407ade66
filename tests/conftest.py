"""Settings for all tests."""

import torch
from hypothesis import settings

# Two workers share the cores; one thread each keeps them out of each other's way.
torch.set_num_threads(1)

settings.register_profile("labelsmooth", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("labelsmooth")
