"""The last lines of make demo: what the detector reaches, where to look, and what to try next."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detect.cli.common import command


def main(run_dir: Path) -> None:
    """Print the summary of a run that was judged, and used to draw, in its own folder."""
    report = json.loads((run_dir / "report" / "report.json").read_text(encoding="utf-8"))
    picture = next((run_dir / "detections").glob("*.detections.png"))
    print()
    headline = f"AP50 {report['AP50']:.3f}, AP {report['AP']:.3f} (mean over IoU 0.5 to 0.95)"
    print(f"mAP:     {headline} on {report['images']} sample images kept from training")
    print(f"report:  {run_dir / 'report' / 'report.html'}")
    print(f"picture: {picture}")
    print("next, with labels of your own:")
    print(f"  {command('convert', 'path/to/labelled', '--out', 'data/mine', '--split', 'train=0.8,val=0.2')}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
