"""From which score on a detection counts: thresholds by prices and limits, what they promise, and calibrated scores."""

from .calibration import calibration
from .costs import Costs, parse_costs, read_costs
from .escapes import escapes
from .froc import froc
from .point import operating_point
from .sizes import recall_by_size

__all__ = ["Costs", "calibration", "escapes", "froc", "operating_point", "parse_costs", "read_costs", "recall_by_size"]
