"""What every section of the settings shares: frozen, closed, documented."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of the settings file; an unknown key is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
