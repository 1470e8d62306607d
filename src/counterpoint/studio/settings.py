"""What the studio was started with: everything that comes from the command line, and the limits."""

from dataclasses import dataclass, field
from pathlib import Path

from counterpoint.errors import InputError

USUAL_PORT = 8000
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much the studio takes, keeps and does at once.

    Raises:
        InputError: a limit below 1.
    """

    upload_bytes: int = 20_000_000
    """Of one photograph, as it is sent."""
    upload_pixels: int = 50_000_000
    """Of one photograph, width times height."""
    uploads: int = 200
    """How many photographs are kept."""
    uploads_bytes: int = 1_000_000_000
    """Of all of them, on the disk."""
    body_bytes: int = 262_144
    """Of any other request."""
    answers_bytes: int = 1_000_000_000
    """Of all answers on the disk; the least recently used are dropped."""
    queue: int = 64
    """Jobs that wait or run."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}.")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the studio listens, and what it offers.

    Raises:
        InputError: a port that is none, no model, or a host beyond this machine without a token.
    """

    models: tuple[str, ...] = ("efficientnet_lite0",)
    """Names as on the command line; the first is the one that pages start with."""
    images: Path | None = None
    """A folder of photographs, which are offered beside the samples; they also say what "in distribution" means."""
    results: Path | None = None
    """A benchmark's folder, or a saved attribution."""
    baselines: tuple[str, ...] = ()
    """Baselines with files of their own, "learned:file=mine.safetensors": pages can choose them, but name no file themselves."""
    device: str | None = None
    host: str = "127.0.0.1"
    port: int = USUAL_PORT
    token: str | None = field(default=None, repr=False)
    """The secret that requests need where the studio listens beyond this machine; None for loopback."""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise InputError(f"port must be from 1 to 65535, got {self.port}.")
        if not self.models:
            raise InputError("models must name at least one model, got none.")
        if not self.is_loopback and not self.token:
            raise InputError(f"host '{self.host}' is open to other machines and needs a token.")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK

    @property
    def url(self) -> str:
        """The address of the first page, with the token where there is one."""
        return self.url_at({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host))

    def url_at(self, host: str) -> str:
        """The same at another of this machine's names or addresses."""
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")
