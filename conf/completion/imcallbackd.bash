# Completes the command line of imcallbackd in bash. Commands and options come from the program's own help.

_imcallbackd() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="$("$1" --help | sed -n 's/^  imcallbackd \([a-z]*\) .*/\1/p') --help --version"
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
        return
    fi
    case $previous in
    -c | --config) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    --out) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
    *)
        words="$("$1" "${COMP_WORDS[1]}" --help 2>/dev/null | sed -n 's/^  \(-c, \)\{0,1\}\(--[a-z]*\).*/\2/p') --help"
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
        ;;
    esac
}

complete -o filenames -F _imcallbackd imcallbackd
