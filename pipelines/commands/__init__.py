"""What a user may ask for: one file a command, with its flags and its cheap checks. The work is done by the stages in `pipelines`."""
