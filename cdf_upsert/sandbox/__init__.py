"""A local stand-in for Cognite Data Fusion: streams, records, spaces, containers and sign-in.

It shares no code with the loader: if both shared the meaning of a reply, they could agree on the same
mistake. `serve` starts it, `testing` gives it to pytest, `world` is what it remembers, `faults` and `limits`
are how it is unkind.
"""
