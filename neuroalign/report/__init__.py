"""Reports: one HTML page with pictures, tables and provenance that holds all it shows."""

from neuroalign.report.encoding import encoding_report
from neuroalign.report.page import Picture, Section, render, write_report
from neuroalign.report.provenance import provenance_tables
from neuroalign.report.rsa import rsa_report, to_mne_report
from neuroalign.report.table import Table

__all__ = [
    "Picture",
    "Section",
    "Table",
    "encoding_report",
    "provenance_tables",
    "render",
    "rsa_report",
    "to_mne_report",
    "write_report",
]
