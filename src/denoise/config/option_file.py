"""What an option file must be: a `_target_` with its parameters, and the catalogue's own keys, each in its form."""

from pathlib import Path
from typing import Any

from denoise.config.limits import FORM, LIMITS, is_domain, is_limits, is_words
from denoise.config.trust import check_targets
from denoise.errors import UserError, choose


def check_form(path: Path, content: Any) -> None:
    """Refuse an option file that is not one: no mapping, no trusted `_target_`, a `space` that is no domains."""
    if not isinstance(content, dict) or not isinstance(content.get("_target_"), str) or not content["_target_"]:
        raise UserError(f"{path}: an option file declares a _target_, such as _target_: torch.nn.SiLU")
    check_targets(content, path.parent.name, str(path))
    if missing := next((name for name, value in content.items() if "???" in str(value)), None):
        raise UserError(
            f"{path}: {missing}: ??? is no value; write one, or null and needs: [{missing}] where it is given"
        )
    if "elementwise" in content and (path.parent.name != "optimizer" or not isinstance(content["elementwise"], bool)):
        raise UserError(f"{path}: elementwise is the catalogue's own key: true or false, in the file of an optimizer")
    if not isinstance(content.get("control", False), bool):
        raise UserError(f"{path}: control: {content['control']} is the catalogue's own key; write true or leave it out")
    for key in ("space", "words", "limits"):
        _check_declared(path, key, content)
    expects = content.get("expects") or {}
    if not isinstance(expects, dict):
        raise UserError(
            f"{path}: expects must map config paths; write expects: {{model.width: {{low: 16, why: text}}}}"
        )
    for name, value in expects.items():
        if not (isinstance(value, dict) and isinstance(value.get("low"), int | float) and "why" in value):
            raise UserError(f"{path}: expects.{name}: write {name}: {{low: 16, why: what goes wrong below}}")
    needs = content.get("needs") or []
    if not isinstance(needs, list):
        raise UserError(f"{path}: needs must be a list of parameters, such as needs: [path]")
    for name in needs:
        if name not in content:
            raise UserError(
                f"{path}: needs names {name}, which is no parameter of the file; {choose(str(name), content)}"
            )


def _check_declared(path: Path, key: str, content: dict[str, Any]) -> None:
    """Refuse what `space`, `words` or `limits` say of a parameter that is not there, or in another form."""
    declared = content.get(key) or {}
    if not isinstance(declared, dict):
        raise UserError(f"{path}: {key} must map parameters, such as {key}: {{beta: ...}}")
    for name, value in declared.items():
        if str(name).split(".")[0] not in content:
            raise UserError(
                f"{path}: {key} names {name}, which the file gives no default; {choose(str(name), content)}"
            )
        if key == "space" and not (isinstance(value, dict) and is_domain(value)):
            raise UserError(f"{path}: space.{name}: {value} is no domain; {FORM}")
        if key == "limits" and not is_limits(value):
            raise UserError(f"{path}: limits.{name}: {value} are no limits; {LIMITS}")
        if key == "words" and not is_words(value):
            raise UserError(f"{path}: words.{name}: {value} is no list of words; write {name}: [auto]")
