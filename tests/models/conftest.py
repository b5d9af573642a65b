"""One thread for torch: its pool only spins on networks as small as these when tests run side by side."""

import torch

torch.set_num_threads(1)
