"""Render the Kubernetes manifests with kustomize, with kubectl, or with Debian's kustomize in a container."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
IN_CONTAINER = "apt-get update -qq && apt-get install -y -qq kustomize >/dev/null && kustomize build"


class NoRendererError(RuntimeError):
    """No program to render the manifests was found, or it failed. Tests then fail; they are not skipped."""


def with_example_secrets(folder: Path) -> Path:
    """Copy the manifests into a folder, with the example secrets in place of real ones; return the copy's path."""
    copy = folder / "kubernetes"
    shutil.copytree(KUBERNETES, copy, ignore=shutil.ignore_patterns("secrets"))
    for example in copy.rglob("secrets.example"):
        shutil.copytree(example, example.with_name("secrets"))
    return copy


def render(manifests: Path, overlay: str) -> list[dict[str, Any]]:
    """Return every object of an overlay."""
    target = f"overlays/{overlay}"
    for command in (["kustomize", "build", target], ["kubectl", "kustomize", target]):
        if shutil.which(command[0]):
            return _objects(command, manifests)
    if shutil.which("docker"):
        shell = ["sh", "-c", f"{IN_CONTAINER} {target}"]
        mounted = f"{manifests}:/manifests:ro"
        return _objects(
            ["docker", "run", "--rm", "-v", mounted, "-w", "/manifests", "python:3.13-slim", *shell],
            manifests,
        )
    raise NoRendererError("needs kustomize, kubectl or docker")


def _objects(command: list[str], folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise NoRendererError(done.stderr)
    return list(yaml.safe_load_all(done.stdout))


def files() -> dict[Path, list[dict[str, Any]]]:
    """Return the objects in every YAML file under deploy/kubernetes, by the file's path there."""
    return {
        path.relative_to(KUBERNETES): list(yaml.load_all(path.read_text(), yaml.CSafeLoader))
        for path in sorted(KUBERNETES.rglob("*.yaml"))
    }
