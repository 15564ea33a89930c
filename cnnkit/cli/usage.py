"""Messages of errors: a usage error with the corrected command, the typed words each as the argument or flag that it takes; a fault."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from cnnkit.cli import console
from cnnkit.errors import describe_fault, is_out_of_memory, shell_line

MODEL_SUFFIXES = (".safetensors", ".onnx", ".tflite")
DATA_SUFFIXES = (".csv", ".tsv", ".zip", ".tar", ".tar.gz", ".tgz")
# The commands by the names that other tools give them.
SYNONYMS = {
    **dict.fromkeys(("test", "validate", "val", "score"), "eval"),
    **dict.fromkeys(("fit", "finetune", "learn"), "train"),
    **dict.fromkeys(("infer", "classify", "detect"), "predict"),
    **dict.fromkeys(("list", "ls"), "runs"),
    **dict.fromkeys(("models", "architectures"), "archs"),
    **dict.fromkeys(("check", "health"), "doctor"),
}
# Example values of the arguments, by their names in the usage line.
EXAMPLES = {
    "DATA": "./images",
    "IMAGE...": "photo.jpg",
    "RUN RUN...": "001-custom-cnn 002-custom-cnn",
    "NAME": "custom-cnn",
}
_EXTRA = re.compile(r"extra arguments?(?:\(s\))? \((.*)\)$", re.DOTALL)


# Errors of the system that a wrong path causes, not a fault of the machine.
REFUSALS = {getattr(errno, name, None) for name in ("ENOENT", "EACCES", "EPERM", "EROFS", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "ELOOP")}


def is_refusal(error: BaseException) -> bool:
    """Return True if the system refused a path that the user may not use, or that is none."""
    return isinstance(error, OSError) and error.errno in REFUSALS


def fault_message(error: BaseException) -> str:
    """Return the message of a fault of the machine: the file, the reason and a way out."""
    fault = describe_fault(error, "the output")
    if is_out_of_memory(error):
        return f"{fault}; close other programs, or use smaller batches or images"
    if is_refusal(error):
        return f"{fault}; name a file or folder that you may use"
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    return f"{fault}; {'free some space, and type the command again' if full else '--debug shows where it happened'}"


def print_usage_error(error: Any, arguments: Sequence[str]) -> int:
    """Print the error in the typed words, the command that is probably meant and that of the help on stderr; return the exit code."""
    context: Any = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(context.get_help(), err=True)
        return int(error.exit_code)
    console.say_error(error.format_message())
    offered = offered_command(error, arguments)
    if offered:
        console.say_labelled(console.err(), "type", offered)
    if context is not None:
        console.say_labelled(console.err(), "help", f"{context.command_path} --help")
    return int(error.exit_code)


def offered_command(error: Any, arguments: Sequence[str]) -> str | None:
    """Return the command that the user probably means, for a usage `error` of click in `arguments`; None if nothing is likely."""
    context: Any = getattr(error, "ctx", None)
    if context is None:
        return None
    params = list(context.command.params)
    extra = _EXTRA.search(error.format_message())
    if extra:
        return _with_flag(extra[1], params, arguments)
    if type(error).__name__ == "NoSuchOption":
        return _without_flag(str(error.option_name), params, arguments)
    if type(error).__name__ == "MissingParameter":
        example = EXAMPLES.get(str(getattr(error.param, "metavar", "")))
        return f"{context.command_path} {example}" if example else None
    unknown = re.match(r"No such command '(.+?)'\.", error.format_message())
    if not unknown or unknown[1] not in arguments:
        return None
    meant = [SYNONYMS[unknown[1]]] if unknown[1] in SYNONYMS else _command_for(unknown[1])
    return shell_line(["cnnkit", *_replace_last(arguments, unknown[1], meant)]) if meant else None


def _command_for(word: str) -> list[str]:
    """Return the command that takes the file, folder or run `word`, which stands where a command should; nothing for other words."""
    path = Path(word)
    if _is_run(word) or (path.is_file() and word.lower().endswith(MODEL_SUFFIXES)):
        return ["info", word]
    if path.is_dir() or (path.is_file() and word.lower().endswith(DATA_SUFFIXES)):
        return ["train", "--data", word]
    return ["predict", word] if path.is_file() else []


def _with_flag(extra: str, params: Sequence[Any], arguments: Sequence[str]) -> str | None:
    """Return the command with a flag before the one word that no argument takes; None for several words."""
    options = {name for param in params if param.param_type_name == "option" for name in param.opts}
    if extra not in arguments:
        return None
    if f"--{extra}" in options:
        words = [f"--{extra}"]
    elif "--model" in options and ("--data" not in options or _is_model(extra)):
        words = ["--model", extra]
    elif "--data" in options:
        words = ["--data", extra]
    else:
        return None
    return shell_line(["cnnkit", *_replace_last(arguments, extra, words)])


def _without_flag(option: str, params: Sequence[Any], arguments: Sequence[str]) -> str | None:
    """Return the command without a flag for data, images or a model, if the command takes its value as an argument."""
    if option not in {"--data", "-d", "--model", "-m", "--run", "--images", "--image"}:
        return None
    if not any(param.param_type_name == "argument" for param in params):
        return None
    plain = [word.removeprefix(f"{option}=") for word in arguments if word != option]
    return shell_line(["cnnkit", *plain])


def _is_model(word: str) -> bool:
    return not Path(word).exists() or word.lower().endswith(MODEL_SUFFIXES) or _is_run(word)


def _is_run(word: str) -> bool:
    from cnnkit.run_dir import RunDir, find_run  # loads pydantic and the settings, which most commands do not need so early

    return RunDir(find_run(word)).is_run


def _replace_last(arguments: Sequence[str], word: str, words: Sequence[str]) -> list[str]:
    """Return `arguments` with the last `word` replaced by `words`."""
    index = len(arguments) - 1 - list(reversed(arguments)).index(word)
    return [*arguments[:index], *words, *arguments[index + 1 :]]
