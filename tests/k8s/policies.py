"""What network policies let through, judged as their API says it: a connection needs the leave of both ends.

A pod that no policy selects for a direction may do everything in it; one that is selected may do what
the policies that select it allow, added up.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.k8s.manifests import Object, matches

NAMESPACE = "drizzle"


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod with its labels and its namespace's, or an address outside."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = NAMESPACE
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    """Set where it is no pod of the cluster."""


def pod_of(component: str) -> End:
    """A pod of this cluster's own."""
    return End({"app.kubernetes.io/name": "drizzle", "app.kubernetes.io/component": component})


def allowed(policies: Iterable[Object], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether `source` may open a connection to `port` of `target`."""
    policies = list(policies)
    out = _direction(policies, source, target, "Egress", port, protocol)
    return out and _direction(policies, target, source, "Ingress", port, protocol)


def _direction(
    policies: list[Object], here: End, there: End, direction: str, port: int, protocol: str
) -> bool:
    if here.address:
        return True  # no policy of ours rules over it
    specs = [policy["spec"] for policy in policies if _rules_over(policy, here, direction)]
    peers, rules_key = ("to", "egress") if direction == "Egress" else ("from", "ingress")
    rules = [rule for spec in specs for rule in spec.get(rules_key, [])]
    return not specs or any(
        _has_port(rule.get("ports"), port, protocol) and _has_peer(rule.get(peers), there) for rule in rules
    )


def _rules_over(policy: Object, end: End, direction: str) -> bool:
    spec = policy["spec"]
    here = policy["metadata"].get("namespace", NAMESPACE) == end.namespace
    return here and direction in spec["policyTypes"] and matches(spec["podSelector"], end.labels)


def _has_port(ports: list[Object] | None, port: int, protocol: str) -> bool:
    if not ports:
        return True
    return any(one.get("port", port) == port and one.get("protocol", "TCP") == protocol for one in ports)


def _has_peer(peers: list[Object] | None, end: End) -> bool:
    return not peers or any(_is_peer(one, end) for one in peers)


def _is_peer(peer: Object, end: End) -> bool:
    if "ipBlock" in peer:
        return bool(end.address) and _in_block(peer["ipBlock"], end.address)
    if end.address:
        return False
    by_pod = matches(peer.get("podSelector", {}), end.labels)
    if "namespaceSelector" not in peer:
        return end.namespace == NAMESPACE and by_pod
    labels = {"kubernetes.io/metadata.name": end.namespace, **end.namespace_labels}
    return matches(peer["namespaceSelector"], labels) and by_pod


def _in_block(block: Object, address: str) -> bool:
    here = ipaddress.ip_address(address)
    inside = here in ipaddress.ip_network(block["cidr"])
    return inside and not any(here in ipaddress.ip_network(one) for one in block.get("except", []))
