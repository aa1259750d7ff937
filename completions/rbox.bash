# Completion of rbox for bash 4.4 or newer; needs no other package.

_rbox() {
    # Bash parts words at colons too: what has no blank between is put together again.
    local rest=${COMP_LINE:0:COMP_POINT} gap line i
    local -a words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        gap=${rest%%[![:space:]]*}
        rest=${rest#"$gap"}
        if [[ $i == 0 || $gap ]]; then
            words+=('')
        fi
        if ((i < COMP_CWORD)); then
            words[-1]+=${COMP_WORDS[i]}
            rest=${rest#"${COMP_WORDS[i]}"}
        else
            words[-1]+=$rest
        fi
    done
    words[-1]=${words[-1]#[\"\']}
    words[0]=${words[0]/#'~/'/"$HOME/"}

    COMPREPLY=()
    if ! line=$("${words[0]}" __complete "${words[@]:1}" 2>/dev/null); then
        compopt -o bashdefault -o default 2>/dev/null
        return
    fi
    # Bash puts the answer in place of the last part only, which is $2.
    local before=${words[-1]%"$2"}
    while IFS=$'\t' read -r line _; do
        [[ $line ]] && COMPREPLY+=("${line#"$before"}")
    done <<<"$line"
}

complete -F _rbox rbox
