# Completion of flaskctl for bash. flaskctl itself tells what may come next.
_flaskctl() {
    mapfile -t COMPREPLY < <(flaskctl --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _flaskctl flaskctl
