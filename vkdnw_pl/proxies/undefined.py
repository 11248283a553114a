"""How a proxy says that a network has no finite score."""


class UndefinedScore(Exception):
    """By its definition the proxy has no finite score for this network, which then ranks last; the text says why."""
