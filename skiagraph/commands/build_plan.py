"""`skiagraph models build-plan`: TensorRT-RTX plans ahead of time, on a machine without a GPU."""

import time
from pathlib import Path
from typing import Annotated

import typer

from skiagraph.commands.services import Config

_CAPABILITY = typer.Option(
    "--compute-capability", help="75, 80, 86, 89 (which is 8.9) or 120; repeat for several. Default: all."
)


def build_plan(
    model: Annotated[str | None, typer.Argument(help="Model package, by name or folder.")] = None,
    capabilities: Annotated[list[int] | None, _CAPABILITY] = None,
    out: Annotated[Path, typer.Option(help="Folder to build into; service.plan_cache reads it.")] = Path(
        "plans"
    ),
    config: Config = None,
) -> int:
    """Build a model's TensorRT-RTX plans for GPUs that are not here."""
    from models.package import ModelPackage, find
    from runners.engines.graph import package_graphs
    from runners.engines.plan_builder import COMPUTE_CAPABILITIES, BatchProfile
    from runners.engines.plan_cache import PlanCache, Target, cached_plan
    from runners.engines.tensorrt_library import PlanError, tensorrt_rtx
    from skiagraph import log
    from skiagraph.errors import FailedError
    from skiagraph.settings import load

    settings = load(config).service
    log.configure(level="WARNING")  # a line for each plan says enough
    package = ModelPackage.open(find(model or settings.model))
    profile = BatchProfile.up_to(settings.max_batch_size)
    cache = PlanCache(folder=out)
    try:
        library = tensorrt_rtx()
        for capability in capabilities or COMPUTE_CAPABILITIES:
            target = Target.ahead_of_time(capability)
            for graph in package_graphs(package):
                started = time.monotonic()
                key, plan = cached_plan(cache, graph, library=library, target=target, profile=profile)
                path = out / key.file_name
                if not path.is_file():
                    raise FailedError(f"no plan can be written to {out}: name another folder with --out")
                typer.echo(f"{path}  {len(plan) / 1e6:.1f} MB  {time.monotonic() - started:.2f} s")
    except PlanError as error:
        raise FailedError(str(error)) from error
    return 0
