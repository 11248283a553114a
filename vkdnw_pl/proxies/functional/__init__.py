"""Maths of the proxies: tensors in, tensors out."""


class UndefinedScore(Exception):
    """By its definition the proxy has no finite score for this network, which then ranks last; the text says why."""
