"""The only talk with the API server: who we are, what we may ask, and what it answers as raw JSON.

From the bottom up: ``resources`` (where things are), ``errors`` (how asking fails), ``backoff`` (when to ask again),
``client`` (one request, or one watch), ``watch`` (a kind of objects, for ever), ``lease`` and ``election`` (which of
the replicas writes).

What must not enter: what an object means. Whoever is above turns raw objects into Changes (``sources``).
"""
