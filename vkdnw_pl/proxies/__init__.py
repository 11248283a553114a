"""Zero-cost proxies: one file each, discovered, with a record that says what the proxy is."""

from vkdnw_pl.proxies.base import PROXIES, Proxy, ProxyInfo, UndefinedScore, make_proxies

__all__ = ["PROXIES", "Proxy", "ProxyInfo", "UndefinedScore", "make_proxies"]
