"""A context of the project that is deployed anew."""
