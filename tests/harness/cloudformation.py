"""The templates for AWS as data. `!Ref`, `!Sub` and other tags are read as their values."""

from typing import Any

import yaml

from tests.harness.trees import ROOT

TEMPLATES = {
    "alerts": ROOT / "deploy" / "observability" / "generated" / "aws.yaml",
    "processes": ROOT / "deploy" / "aws" / "processes.yaml",
    "servers": ROOT / "deploy" / "aws" / "servers.yaml",
}


class _Template(yaml.SafeLoader):
    """Reads CloudFormation's tags as their values."""


def _read_tag(loader: _Template, _: str, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)


_Template.add_multi_constructor("!", _read_tag)


def read_template(name: str) -> dict[str, Any]:
    return yaml.load(TEMPLATES[name].read_text("utf-8"), _Template)  # a SafeLoader


def resources(name: str) -> dict[str, Any]:
    """The properties of each resource of a template."""
    return {key: resource.get("Properties", {}) for key, resource in read_template(name)["Resources"].items()}
