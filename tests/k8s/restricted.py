"""The Pod Security Standard `restricted`, and what we ask beyond it; the faults of a pod, in words.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ says the same in prose.
"""

from __future__ import annotations

from tests.k8s.manifests import Object, containers, pod

VOLUME_KINDS = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC", "hostUsers")


def faults(workload: Object) -> list[str]:
    """What the standard would refuse."""
    spec = pod(workload)
    security = spec.get("securityContext", {})
    found = [name for name in HOST_FIELDS if spec.get(name)]
    if not security.get("runAsNonRoot"):
        found.append("may run as root")
    if security.get("runAsUser") == 0:
        found.append("runs as root")
    if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        found.append("has no seccomp profile")
    for volume in spec.get("volumes", []):
        found += [f"volume of kind {kind}" for kind in volume.keys() - {"name"} - VOLUME_KINDS]
    for container in containers(workload):
        found += [f"{container['name']}: {fault}" for fault in _container_faults(container)]
    return found


def _container_faults(container: Object) -> list[str]:
    security = container.get("securityContext", {})
    found: list[str] = []
    if security.get("allowPrivilegeEscalation") is not False:
        found.append("may gain privileges")
    if security.get("privileged"):
        found.append("is privileged")
    if security.get("capabilities", {}).get("drop") != ["ALL"] or security["capabilities"].get("add"):
        found.append("keeps capabilities")
    if security.get("runAsNonRoot") is False or security.get("runAsUser") == 0:
        found.append("runs as root")
    if any("hostPort" in port for port in container.get("ports", [])):
        found.append("takes a port of the host")
    return found


def beyond(workload: Object) -> list[str]:
    """What the standard leaves open and we do not."""
    spec = pod(workload)
    found: list[str] = []
    if spec.get("automountServiceAccountToken") is not False:
        found.append("gets a token for the API")
    if spec.get("enableServiceLinks") is not False:
        found.append("gets every Service in its environment")
    for container in containers(workload):
        resources, name = container.get("resources", {}), container["name"]
        if not container["securityContext"].get("readOnlyRootFilesystem"):
            found.append(f"{name}: may write its image")
        if not {"cpu", "memory"} <= resources.get("requests", {}).keys():
            found.append(f"{name}: requests nothing")
        if "memory" not in resources.get("limits", {}):
            found.append(f"{name}: may take all memory")
        if container.get("imagePullPolicy") != "IfNotPresent":
            found.append(f"{name}: asks a registry for what is there")
    return found
