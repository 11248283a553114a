import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """As scoring does on CPU: the bits of a sum depend on the number of threads."""
    torch.set_num_threads(1)
