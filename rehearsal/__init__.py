"""The rehearsal: the whole graph of the paper, on stand-ins that differ from it in size alone."""
