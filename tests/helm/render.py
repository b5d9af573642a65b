"""Write the manifests of every value set, one file each: `python -m tests.helm.render FOLDER`."""

import sys
from pathlib import Path

from helm_python import Chart

from tests.helm.chart import CHART, NOTES, VALUE_SETS, Renderer, read


def main(folder: Path) -> None:
    with Chart.load(CHART) as chart:
        for values in VALUE_SETS:
            texts = Renderer(chart).texts(read(values))
            manifests = [text for path, text in sorted(texts.items()) if path != NOTES and text.strip()]
            (folder / values.name).write_text("\n---\n".join(manifests))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
