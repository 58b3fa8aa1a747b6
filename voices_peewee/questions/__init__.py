"""What is left, what failed, which model is better.

``pending``, ``failures`` and ``run_details`` ask about runs. ``selection`` (which runs, model and
metric), ``fields`` (what makes groups), ``counted`` (what counts once) and ``stats`` serve
``leaderboard`` with ``pivot``, and ``comparison`` with ``sides``, ``pairing``, ``comparisons``
(many models), ``comparison_text`` and ``gate``. ``methods`` is the door.
"""
