"""`skiagraph demo`: everything at once on this machine, with phantoms or with your own files."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Your own DICOM, PNG or JPEG files or folders.", show_default=False),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where what the PACS received is laid down.")
    ] = Path("demo"),
) -> int:
    """Start the product and a PACS, send studies over real associations, show what comes back."""
    from skiagraph.demo.run import run

    return run(files or [], folder)
