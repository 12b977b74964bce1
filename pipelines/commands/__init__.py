"""The commands: one file each, with its flags and its cheap checks. The work is done by the stages in `pipelines`."""
