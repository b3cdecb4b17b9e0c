"""Work that survives a crash: the queue, the worker, and the steps of each job type."""
