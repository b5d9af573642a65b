"""What both halves count, in a list made from a real run: `python -m tests.operations.metrics` writes it."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from skiagraph.demo.product import running_product
from tests.certificates import make_certificates

LIST: Final = Path(__file__).with_name("metrics.txt")


def described(expositions: Iterable[str]) -> str:
    """A paragraph for each family: name, type, labels; help."""
    found: dict[str, tuple[str, str, set[str]]] = {}
    for text in expositions:
        for family in text_string_to_metric_families(text):
            if not family.name.startswith("skiagraph_") or family.name.endswith("_created"):
                continue
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            name = family.name + ("_total" if family.type == "counter" else "")
            *_, before = found.get(name, ("", "", set()))
            found[name] = (family.type, family.documentation, labels | before)
    return "\n".join(
        f"{name} {kind} {{{', '.join(sorted(labels))}}}\n  {said}\n"
        for name, (kind, said, labels) in sorted(found.items())
    )


def _write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_certificates(work)
        tls = {"port": 0, "certificate": f"{work}/server.pem", "key": f"{work}/server.key"}
        pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}
        listener = {"tls": tls, "destinations": [pacs]}
        with running_product(work / "product", listener=listener, log=work / "log") as product:
            ports = (product.settings.listener.console_port, product.settings.service.port)
            httpx.get(f"http://127.0.0.1:{ports[1]}/no/such/path", timeout=10)
            LIST.write_text(
                described(httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text for port in ports)
            )


if __name__ == "__main__":
    _write()
