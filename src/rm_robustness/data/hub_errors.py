"""InputErrors for failed requests to the Hugging Face hub."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InputError
from .patience import UnavailableError


@contextmanager
def explained(
    where: str, found: str = "nothing to fetch", errors: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn an error of the hub or the network into one InputError, without secrets of addresses.

    `where` names the repository and its commit; `found` what an error of no kind known here means;
    `errors` are kinds to explain besides those of huggingface_hub. It is an UnavailableError if the
    hub did not answer, or says that it cannot now. An error of the disk, and one that is an
    InputError already, are raised as they are.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import httpx

    try:
        yield
    except InputError:
        raise
    except RevisionNotFoundError as error:
        raise InputError(where, "no such commit", "one of the repository's") from error
    except RepositoryNotFoundError as error:
        gated = isinstance(error, GatedRepoError)
        refusal = "a gated repository" if gated else "no such repository, or a private one"
        fix = "accept its terms on the hub and" if gated else "check the name, or"
        fix += " put a token that may read it into the environment as HF_TOKEN"
        raise InputError(where, refusal, "one that can be read", fix) from error
    except (OSError, ValueError, httpx.HTTPError, *errors) as error:
        if isinstance(error, OSError) and error.errno:  # the disk, not the hub
            raise
        reason = re.sub(r"\?\S*", "", " ".join(str(error).split()))[:200]
        fix = "check the network, the name, the commit and the access rights (HF_TOKEN)"
        kind = UnavailableError if _is_passing(error) else InputError
        raise kind(where, f"{found} ({reason})", "files that can be fetched", fix) from error


def _is_passing(error: BaseException) -> bool:
    """Whether an error, or what it follows from, is one of the network or the server's own."""
    from huggingface_hub.utils import httpx

    following: BaseException | None = error
    while following:
        status = getattr(getattr(following, "response", None), "status_code", 0)
        if isinstance(following, httpx.TransportError) or status == 429 or status >= 500:
            return True
        following = following.__cause__ or following.__context__
    return False
