"""All SQL of settlement: days and their seals, statements and their approvals, what a calculation leaves behind."""
