#!/bin/sh
# Fills fuzz/corpus with the fixtures of the converters, for each target those that it can make something of.
# Targets whose first byte says how large chunks are get one before them.
set -eu
cd "$(dirname "$0")"
fixtures=../src/wire/translate/fixtures
for target in envelope tap journal request reply error openai_stream sse stream; do
    mkdir -p "corpus/$target"
    case $target in
        sse | stream) kinds="sse" ;;
        openai_stream) kinds="sse json" ;;
        *) kinds="json" ;;
    esac
    for kind in $kinds; do
        for file in "$fixtures"/*."$kind"; do
            name=corpus/$target/$(basename "$file")
            case $target in
                sse | stream | tap) { printf '\007' && cat "$file"; } >"$name" ;;
                *) cp "$file" "$name" ;;
            esac
        done
    done
done
