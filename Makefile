# Five names for what tox does; tox.ini says how.
.PHONY: test lint types once bench

test:
	tox

lint:
	tox -e lint

types:
	tox -e types

once:
	tox -e once

bench:
	tox -e bench
