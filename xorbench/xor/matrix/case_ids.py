"""Parsing of the ids of cases and configs."""

import re
from dataclasses import fields
from typing import Any, Final

from xorbench.errors import BadOption
from xorbench.xor.matrix.axes import CASE_AXES, CONFIG_AXES, Axis
from xorbench.xor.matrix.case import BASE_CONFIG, Case, ProcessConfig

EXAMPLE: Final = "cpu-loader-b128-pin0-drop1-w0-s0, or …@threads=2 with a config"
_PATTERNS: Final[dict[type, str]] = {bool: "[01]", int: r"\d+", str: "[a-z]+"}
_DEVICE: Final = r"(?P<kind>[a-z_]+)(?P<index>\d*)"  # ids have no colon before a device's index
_CASE = re.compile(
    "-".join(
        _DEVICE
        if field.name == "device"
        else f"{field.metadata['mark']}(?P<{field.name}>{_PATTERNS[type(field.default)]})"
        for field in fields(Case)
        if "mark" in field.metadata
    )
    + "(?P<more>(?:-[a-z0-9_]+=.*)?)"
)
# Separators before a name, since a value may contain the same sign, as in `1e-05`.
_NEXT_OF_CASE = re.compile(r"-(?=[a-z0-9_]+=)")
_NEXT_OF_SETTING = re.compile(r"\+(?=[a-z0-9_]+=)")
_NEXT_VARIABLE = re.compile(r" (?=[A-Za-z_][A-Za-z0-9_]*=)")


def read_variant(option: str, text: str) -> tuple[Case, ProcessConfig]:
    """Case and config of `case` or `case@config`. Raises `BadOption` for an invalid id."""
    case, separator, config = text.partition("@")
    return read_case(option, case), read_config(option, config) if separator else ProcessConfig()


def read_case(option: str, text: str) -> Case:
    """The case of an id. Raises `BadOption` for an invalid id."""
    match = _CASE.fullmatch(text)
    if not match:
        raise BadOption(f"{option}: invalid case {text!r}", f"for example {EXAMPLE}")
    texts = {name: value for name, value in match.groupdict().items() if name != "more"}
    kind, index = texts.pop("kind"), texts.pop("index")
    texts["device"] = f"{kind}:{index}" if index else kind
    texts |= dict(pair.split("=", 1) for pair in _NEXT_OF_CASE.split(match["more"])[1:])
    return Case(**_values(option, CASE_AXES, texts))


def read_config(option: str, text: str) -> ProcessConfig:
    """The config of an id such as `threads=2+deterministic=0`. Raises `BadOption`."""
    if text == BASE_CONFIG:
        return ProcessConfig()
    texts = {}
    for pair in _NEXT_OF_SETTING.split(text):
        name, equals, value = pair.partition("=")
        if not equals or name in texts:
            raise BadOption(f"{option}: invalid setting {pair!r}", f"for example {EXAMPLE}")
        texts[name] = value
    base = {f.name: getattr(ProcessConfig(), f.name) for f in fields(ProcessConfig) if f.init}
    return ProcessConfig(**{**base, **_values(option, CONFIG_AXES, texts)})


def _values(option: str, axes: tuple[Axis, ...], texts: dict[str, str]) -> dict[str, Any]:
    """The values of the given axes, parsed like their options."""
    by_name = {axis.name: axis for axis in axes}
    for name in texts:
        if name not in by_name:
            raise BadOption(f"{option}: unknown setting {name!r}", f"one of {', '.join(by_name)}")
    # A repeated option has one word per value in an id.
    lines = {n: _NEXT_VARIABLE.sub("\n", v) if by_name[n].several else v for n, v in texts.items()}
    return {name: by_name[name].read(option, text)[0] for name, text in lines.items()}
