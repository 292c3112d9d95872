"""What is scored. One kind of system per file; the table is `sonoseek.evaluate.SYSTEMS`."""
