"""A report as PDF: drawing primitives, page layout, the cards of similar cases, and the whole in `report`."""
