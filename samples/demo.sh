#!/bin/sh
# Load the samples into the embedded sandbox: sh samples/demo.sh [CDF_UPSERT]
# CDF_UPSERT is the command to run, `cdf-upsert` unless it is given. Needs no account; nothing leaves the machine.
set -eu

cdf_upsert=${1:-cdf-upsert}
samples=$(dirname "$0")
runs=.cdf-upsert/demo  # Its own: each demo starts afresh, and other loads are left alone.
rm -rf "$runs"

echo "1. Weather (NDJSON) and flights (a JSON array): every record is good."
"$cdf_upsert" load --sandbox --run-dir "$runs/good" demo "$samples/weather.ndjson" "$samples/flights.json"

echo
echo "2. A file with every kind of broken record: the good ones land, the others are told."
status=0
"$cdf_upsert" load --sandbox --run-dir "$runs/broken" demo "$samples/broken.ndjson" || status=$?
if [ "$status" -ne 3 ]; then
    echo "Exit code 3 (finished, some records failed) was expected, not $status." >&2
    exit 1
fi

echo
echo "The broken records and why, one a line: $runs/broken/failed.ndjson"
echo "Mend them there and load that file, or mend the input and run the same command again."
