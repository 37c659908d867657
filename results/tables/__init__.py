"""Tables as pure functions of records: ``collect`` arranges them, the others make tables of the arrangement."""

from results.tables.blocks import Block, Line, collect
from results.tables.cost import cost
from results.tables.model import Column, Entry, Row, Table, entry_text
from results.tables.published import claims
from results.tables.scores import scores
from results.tables.slices import slices
from results.tables.summary import summary

__all__ = [
    "Block",
    "Column",
    "Entry",
    "Line",
    "Row",
    "Table",
    "claims",
    "collect",
    "cost",
    "entry_text",
    "scores",
    "slices",
    "summary",
]
