"""Whether the node can take instances: what `/readyz` and `skiagraph_ready` say."""

from collections.abc import Callable, Mapping

Check = Callable[[], bool]


class Readiness:
    """checks: name → whether it holds; one that raises does not."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    def held(self) -> dict[str, bool]:
        return {name: _holds(check) for name, check in self._checks.items()}


def _holds(check: Check) -> bool:
    try:
        return check()
    except Exception:  # a probe answers, whatever is broken behind it
        return False
