"""Networks as torch modules, their initialisation and their cost."""
