"""Score tables: making them (a Lightning prediction loop over architectures), keeping them, evaluating them."""
