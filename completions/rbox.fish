complete --keep-order --exclusive --command rbox --arguments "(RBOX_COMPLETE=fish rbox -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
