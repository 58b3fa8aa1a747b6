"""What is left, what failed, which model is better.

``pending`` (with ``outcomes``, what runs came to, and ``sharing`` among workers), ``watching``,
``failures`` and ``run_details`` ask about runs. ``selection`` (which runs, model and
metric), ``fields`` (what makes groups), ``counted`` (what counts once), ``groups`` with
``taking`` (what was measured of it) and ``stats`` serve ``leaderboard`` with
``pivot``, and ``comparison`` with ``pairing``, ``comparisons`` (many models),
``comparison_text`` and ``gate``; ``remarks`` says what a reader has to know, ``tables`` shows
it. ``methods`` is the door.
"""
