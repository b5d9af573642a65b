"""Print the manifests of one value set: `python -m tests.helm.render full`."""

import sys

from helm_python import Chart

from tests.helm.chart import CHART, NOTES, Renderer, read


def main(name: str) -> None:
    with Chart.load(CHART) as chart:
        texts = Renderer(chart).texts(read(CHART / "ci" / f"{name}-values.yaml"))
    print("\n---\n".join(text for path, text in sorted(texts.items()) if path != NOTES and text.strip()))


if __name__ == "__main__":
    main(sys.argv[1])
