"""The reading room's server: the engine over HTTP, and the page that readers keep open.

    app = create_app(open_engine("galleries/busi", threads=1), WebSettings())

It parses, calls and shows: every answer is the engine's, every batch job `sonoseek.batch`'s.
"""
