"""The operator's commands, one file per noun. They talk to the API, like everybody else."""
