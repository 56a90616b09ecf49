"""One thread for every test: small networks are slower with more, and results depend on the number."""

import torch

torch.set_num_threads(1)
