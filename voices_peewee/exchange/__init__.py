"""Out and in: the record as JSON lines, tables as CSV, and records merged without doubling.

``export`` writes what ``tables`` puts in order. ``reading`` opens inputs, which are ``sources``
(JSON lines, CSV, mappings) or ``databases``; ``values`` types their records by the schema,
``matching`` finds which are here already, ``merging`` adds the others. Of other tools' files
``manifests`` reads what data sets hold and ``adding`` records it;
``result_files`` what was measured, ``places`` what that is about, and ``results`` records it.
``texts`` reads CSV and JSON for all of them. ``methods`` is the door.
"""
