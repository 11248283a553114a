# The score tables of this folder, about half an hour of one core: bash benchmarks/mbv2_cpu/run.sh FOLDER
# A run that ends early goes on with the same command.
set -e
here=benchmarks/mbv2_cpu
out=$1
all='[vkdnw, aleph, macs, jacov, expressivity, trainability]'
others='[jacov, expressivity, trainability]'
mkdir -p "$out"

table() { # name pixels batch classes seed networks proxies, further options
    head -n "$6" $here/archs.txt > "$out/archs$6.txt"
    python -m vkdnw_pl score --space mbv2 --archs "$out/archs$6.txt" --network "{image_size: $2, num_classes: $4}" \
        --batch_size "$3" --seeds "$5" --proxies "$7" "${@:8}" --device cpu --workers 1 --out "$out/$1"
    gzip -9nc "$out/$1/scores.csv" > "$here/scores/$1.csv.gz"
}

table 224px_8_c1000 224 8 1000 1 24 '[vkdnw, aleph, macs]'
table 224px_32_others 224 32 1000 1 24 "$others" --data random
table 224px_8_c1000_seed2 224 8 1000 2 12 '[vkdnw, aleph, macs]'
table 224px_32_others_seed2 224 32 1000 2 12 "$others" --data random
for pixels in 64 96 128; do
    for batch in 4 8; do
        table "${pixels}px_${batch}_c10" "$pixels" "$batch" 10 1 24 "$all" --data random
    done
done
table 64px_8_c1000 64 8 1000 1 24 "$all" --data random
table 64px_32_others 64 32 10 1 24 "$others" --data random
table 96px_32_others 96 32 10 1 24 "$others" --data random
