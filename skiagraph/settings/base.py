"""What every section of the settings shares: frozen, closed, documented."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """One section of the settings file; an unknown key is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
