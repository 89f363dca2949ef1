"""The control plane: what operators wrote in, one frozen snapshot after another out. The only package that has heard of
Kubernetes.

The life of a change
--------------------
1. A source (``sources.cluster``: an API server; ``sources.manifests``: a directory that is watched) yields an
   ``objects.Change``: one event about one object, raw.
2. ``reconcile`` gathers Changes for a moment and hands them to the one ``compile.Compiler``, in a thread (before the
   first table on the loop, as they come).
3. ``cluster`` reads each object into a narrow frozen view (``objects``) and asks: does anything we read differ? Most
   updates end here. An object that cannot be read leaves the view it had, and a ``problems.Problem``.
4. ``apps`` compiles the app it belongs to, by itself: ``annotations.reading`` turns what its owner wrote into a
   ``model.App`` by the one table of ``annotations.fields``, with the last good value wherever the new one is not in
   order; ports, endpoints and rules become a ``routing.definitions.Route``.
5. ``claims`` settle who holds which name; nothing a newcomer does disturbs a holder.
6. ``compile`` settles the apps that are touched: host rules, paths that apps lend each other, certificates
   (``certificates`` reads a Secret and keeps its last good pair), Problems. What differs from the snapshot before
   becomes the next one (``snapshot``), numbered; if nothing does, the change has had its effect.
7. ``publisher`` prepares the certificates in a thread and then, on the loop, swaps them in and publishes the table:
   certificates first, so that no redirect leads to an https that is not there yet. The next request meets all of it.
8. ``admin`` shows what is live, and every Problem there is. In a cluster the elected replica writes down who holds
   which name, and tells owners of Problems by Events (``feedback``).

Floors, from the roof down: ``cli`` and ``app`` know everybody; ``reconcile``, ``publisher`` and ``admin`` run loops;
``compile`` and all below it is pure: no loop, no socket, no clock, no file.
"""

__version__ = "0.1.0"
