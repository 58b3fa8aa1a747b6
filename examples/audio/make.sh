#!/bin/sh
# Make the recordings of this folder again. Needs espeak-ng, sox and ffmpeg.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

speak() { # speak VOICE WORDS-PER-MINUTE TEXT OUTPUT
    espeak-ng -v "$1" -s "$2" -w "$4" "$3"
}
ada() { speak en-us+f3 170 "$1" "$2"; }
bob() { speak en-gb-scotland+m3 160 "$1" "$2"; }
level() { # level INPUT RATE OUTPUT: both speakers equally loud, no silence before
    sox -D "$1" -b 16 -c 1 "$3" gain -3 rate "$2" silence 1 0.02 1% norm -6
}
encode() { # encode INPUT OUTPUT OPTIONS...
    input=$1 output=$2
    shift 2
    ffmpeg -nostdin -loglevel error -y -i "$input" -map_metadata -1 -fflags +bitexact \
        -flags:a +bitexact "$@" "$output"
}

ada "Good morning, this is Ada speaking." "$work/ada.wav"
bob "Hello there, my name is Bob." "$work/bob.wav"
sox -D -m -v 0.6 "$work/ada.wav" -v 0.6 "$work/bob.wav" "$work/both.wav"
sox -D -M -v 0.9 "$work/ada.wav" -v 0.9 "$work/bob.wav" "$work/apart.wav"
level "$work/ada.wav" 22050 ada.flac
level "$work/bob.wav" 8000 bob.wav
encode "$work/ada.wav" ada.m4a -ar 32000 -c:a aac -b:a 48k
encode "$work/bob.wav" bob.mp3 -ar 24000 -c:a libmp3lame -b:a 40k
encode "$work/both.wav" mix_ada_bob.ogg -ar 44100 -ac 2 -c:a libvorbis -q:a 0
encode "$work/apart.wav" mix_ada_bob.opus -ar 48000 -c:a libopus -b:a 40k

mkdir -p mixtures references
mix() { # mix NUMBER ADA'S-TEXT BOB'S-TEXT ADA-LEFT BOB-LEFT ADA-RIGHT BOB-RIGHT
    ada "$2" "$work/a.wav"
    bob "$3" "$work/b.wav"
    for who in a b; do
        level "$work/$who.wav" 8000 "$work/$who.level.wav"
        sox -V1 -D "$work/$who.level.wav" "$work/$who.cut.wav" pad 0 2 trim 0 2
    done
    sox -D "$work/a.cut.wav" -C 8 "references/mix_$1_ada.flac"
    sox -D "$work/b.cut.wav" -C 8 "references/mix_$1_bob.flac"
    sox -D -M "$work/a.cut.wav" "$work/b.cut.wav" -C 8 "mixtures/mix_$1.flac" \
        remix "1v$4,2v$5" "1v$6,2v$7"
}
mix 1 "The library opens at nine on Monday." "Please bring two cups of black tea." 0.8 0.4 0.3 0.7
mix 2 "Seven green boats sailed past the pier." "My brother paints old wooden doors." 0.7 0.6 0.5 -0.6
mix 3 "We measured every sample twice today." "The train to Glasgow leaves at noon." 0.9 0.5 0.6 0.9
mix 4 "Turn left after the bridge, then stop." "Nobody heard the second bell ringing." 0.5 0.8 0.8 0.6
