"""The mathematics of the proxies: tensors and modules in, tensors out."""
