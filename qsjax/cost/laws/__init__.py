"""The cost laws, one family a module. Laws are pure functions of the records in `qsjax.records`."""
