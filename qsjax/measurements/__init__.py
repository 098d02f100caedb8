"""Published measurements: what was deployed, what was measured, what the model says of it."""

from qsjax.measurements.cases import Case as Case
from qsjax.measurements.cases import Skipped as Skipped
from qsjax.measurements.cases import read_case as read_case
from qsjax.measurements.cases import read_cases as read_cases
from qsjax.measurements.deployment import Deployment as Deployment
from qsjax.measurements.kernels import Kernel as Kernel
from qsjax.measurements.predict import Constants as Constants
from qsjax.measurements.predict import Prediction as Prediction
from qsjax.measurements.predict import predict as predict
from qsjax.measurements.storage import load_records as load_records
from qsjax.measurements.storage import read_csv as read_csv
from qsjax.measurements.storage import read_json as read_json

__all__ = [
    "Case",
    "Constants",
    "Deployment",
    "Kernel",
    "Prediction",
    "Skipped",
    "load_records",
    "predict",
    "read_case",
    "read_cases",
    "read_csv",
    "read_json",
]
