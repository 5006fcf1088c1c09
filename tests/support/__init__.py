"""What the tests have in common: servers, processes, messages, and the movers by hand."""
