"""Start weights named by a model of the Hugging Face hub, `hub:<owner>/<model>/<file>`; needs the extra `hub`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from sonoseek.core import InvalidValueError, NotFoundError, TemporaryError, from_extra

PREFIX = "hub:"


def hub_file(name: str) -> Path:
    """Fetch a file, or take it from the hub's own cache; a mirror is named by HF_ENDPOINT, a cache by HF_HOME.

    Args:
        name: "hub:<owner>/<model>/<path of a .safetensors file>". It names whatever is newest there: say `sha256` in
            the recipe to hold it.

    Returns:
        Where the file lies.

    Raises:
        InvalidValueError: `name` is not of that form, or not a .safetensors file.
        MissingExtraError: huggingface_hub is not installed.
        NotFoundError: no such model, or no such file in it, for whoever is logged in.
        TemporaryError: the hub does not answer, and the file is not in its cache.
    """
    owner, _, rest = name.removeprefix(PREFIX).partition("/")
    model, _, file = rest.partition("/")
    if not (name.startswith(PREFIX) and owner and model and file.endswith(".safetensors")):
        raise InvalidValueError(
            f"{name!r} does not name start weights; write hub:<owner>/<model>/<file>.safetensors. Files of other kinds "
            "can run code when they are opened."
        )
    with from_extra("hub"):
        hub, errors = import_module("huggingface_hub"), import_module("huggingface_hub.errors")
    repo = f"{owner}/{model}"
    try:
        return Path(hub.hf_hub_download(repo_id=repo, filename=file))
    except errors.HFValidationError as error:
        raise InvalidValueError(f"{repo!r} cannot be a model of the hub ({error}). Correct the recipe.") from error
    except errors.RepositoryNotFoundError as error:
        raise NotFoundError(
            f"the hub shows no model {repo!r}. Correct the recipe; for a private or gated one, log in first."
        ) from error
    except errors.LocalEntryNotFoundError as error:  # before the next one, which it is a kind of
        raise _silent(name) from error
    except errors.EntryNotFoundError as error:
        raise NotFoundError(f"the model {repo!r} of the hub has no file {file!r}. Correct the recipe.") from error
    except OSError as error:
        raise _silent(name) from error


def _silent(name: str) -> TemporaryError:
    return TemporaryError(
        f"{name!r} is not in the hub's cache, and the hub does not hand it out now. Try again with a network, or fetch "
        "the file yourself and write its path."
    )
