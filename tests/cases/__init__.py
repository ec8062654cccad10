"""One test for each input that once failed, named after its row in the table of cases (`pytest -m cases`)."""
