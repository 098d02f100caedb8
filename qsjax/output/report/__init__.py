"""One self-contained HTML page from result folders: sortable tables, interactive figures, inputs.

The page holds its data, its style and its script, and its content policy forbids any request, so
it opens from disk, from an attachment, and years later.
"""

from qsjax.output.report.page import html as html
from qsjax.output.report.page import write as write
from qsjax.output.report.reading import read as read
