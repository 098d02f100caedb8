"""Published measurements: what was deployed, what was measured, what the model says of it."""

from qsjax.engines.operating_point import OperatingPoint as OperatingPoint
from qsjax.evidence.measurements.cases import Case as Case
from qsjax.evidence.measurements.cases import Skipped as Skipped
from qsjax.evidence.measurements.cases import read_case as read_case
from qsjax.evidence.measurements.cases import read_cases as read_cases
from qsjax.evidence.measurements.kernels import Kernel as Kernel
from qsjax.evidence.measurements.predict import Constants as Constants
from qsjax.evidence.measurements.predict import Prediction as Prediction
from qsjax.evidence.measurements.predict import predict as predict
from qsjax.evidence.measurements.storage import load_left_out as load_left_out
from qsjax.evidence.measurements.storage import load_records as load_records
from qsjax.evidence.measurements.storage import read_csv as read_csv
from qsjax.evidence.measurements.storage import read_json as read_json
from qsjax.evidence.measurements.storage import read_records as read_records
from qsjax.evidence.measurements.storage import records_given as records_given
