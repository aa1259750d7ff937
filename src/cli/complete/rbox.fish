# Completion of rbox for fish.

function __rbox_complete
    set -l words (commandline --tokenize --current-process --cut-at-cursor)
    set -l typed (commandline --current-token --cut-at-cursor | string trim --left --chars '"\'')
    set -l program (string replace --regex '^~/' "$HOME/" -- $words[1])
    set --erase words[1]
    if set -l found (command $program __complete $words "$typed" 2>/dev/null)
        string join \n -- $found
        return
    end
    # A path; what comes before it stays, such as --cert-dir=
    set -l before (string match --regex -- '^--[^=]*=' $typed)
    for path in (__fish_complete_path (string replace -- "$before" '' $typed))
        echo "$before$path"
    end
end

complete --command rbox --no-files --arguments '(__rbox_complete)'
