"""Zero-cost proxies, those of one paper in one file; each has a record that says what it is."""

from vkdnw_pl.proxies.base import PROXIES, Proxy, ProxyInfo, UndefinedScore, make_proxies

__all__ = ["PROXIES", "Proxy", "ProxyInfo", "UndefinedScore", "make_proxies"]
