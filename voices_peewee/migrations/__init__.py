"""Which migrations are applied; applying, rolling back, writing and comparing them.

``history`` (which there are, which are applied), ``guard`` (one at a time, one transaction),
``router`` (peewee-migrate's, made safe), ``runner`` (apply, roll back, create),
``writer`` (a draft from the models), ``drift`` (schema and models compared). ``methods`` is the
door.
"""
