"""Figures: a function takes plain data and an optional Axes, and returns the Axes.

None of them computes, saves or shows. `render` turns a finished figure into bytes, `figure` makes
panels in the same style, `theme` draws for a light or a dark page.
"""

from qsjax.plotting.boards import best_partition_map as best_partition_map
from qsjax.plotting.boards import contest_map as contest_map
from qsjax.plotting.break_even import chosen_hardware as chosen_hardware
from qsjax.plotting.break_even import turning_points as turning_points
from qsjax.plotting.comparison import architecture_gains as architecture_gains
from qsjax.plotting.comparison import gpu_time as gpu_time
from qsjax.plotting.comparison import lead_over_context as lead_over_context
from qsjax.plotting.comparison import sure_leads as sure_leads
from qsjax.plotting.ledgers import memory_ledger as memory_ledger
from qsjax.plotting.ledgers import time_breakdown as time_breakdown
from qsjax.plotting.paper import paper_table as paper_table
from qsjax.plotting.paper import winner_shifts as winner_shifts
from qsjax.plotting.principles import qs_plane as qs_plane
from qsjax.plotting.principles import reuse_decomposition as reuse_decomposition
from qsjax.plotting.principles import roofline as roofline
from qsjax.plotting.sensitivity import elasticity_bands as elasticity_bands
from qsjax.plotting.sensitivity import tornado as tornado
from qsjax.plotting.serving import front_bands as front_bands
from qsjax.plotting.serving import latency_against_load as latency_against_load
from qsjax.plotting.serving import pareto_front as pareto_front
from qsjax.plotting.serving import prefix_places as prefix_places
from qsjax.plotting.serving import speculation_gain as speculation_gain
from qsjax.plotting.stability import certified_boxes as certified_boxes
from qsjax.plotting.stability import stability_intervals as stability_intervals
from qsjax.plotting.style import figure as figure
from qsjax.plotting.style import render as render
from qsjax.plotting.style import theme as theme
from qsjax.plotting.throughput import ratio_vs_context as ratio_vs_context
from qsjax.plotting.throughput import throughput_vs_context as throughput_vs_context
from qsjax.plotting.uncertainty import iso_throughput as iso_throughput
from qsjax.plotting.uncertainty import verdict_fan as verdict_fan
from qsjax.plotting.validation import parity as parity
from qsjax.plotting.validation import residuals as residuals
