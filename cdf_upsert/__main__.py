"""`python -m cdf_upsert` is `cdf-upsert`."""

from cdf_upsert.cli import main

main()
